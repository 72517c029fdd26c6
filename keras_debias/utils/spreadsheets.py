"""CSV files that no spreadsheet takes for a program."""

import os

from keras_debias.utils.files import atomic_write

# What a cell begins with that Excel or LibreOffice computes.
FORMULA = tuple("=+-@\t\r")


def safe_text(text: str) -> str:
    """A text of one line that begins like no formula.

    Control characters become blanks, and a `'` is put before a text that
    would be computed.
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    risky = text.startswith(FORMULA) or line.lstrip().startswith(FORMULA)
    return f"'{line}" if risky else line


def write_csv(frame, path: str | os.PathLike) -> None:
    """Writes a `pandas.DataFrame` to a CSV file, whole or not at all.

    Texts, names of columns among them, are written by `safe_text`; numbers
    stay numbers.
    """

    def safe(value):
        return safe_text(value) if isinstance(value, str) else value

    frame = frame.map(safe).rename(columns=safe)
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False)
