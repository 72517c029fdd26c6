"""Reads CSV and TSV files without losing rows or leading zeros."""

import bz2
import csv
import gzip
import io
import lzma
import os
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

# Only an empty cell is a missing value.
TEXT_OPTIONS = {"keep_default_na": False, "na_values": [""]}
OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# Options with which pandas splits a file in other ways than checked here.
OTHER_SYNTAX = ("quoting", "quotechar", "escapechar", "engine", "dialect")
OTHER_SYNTAX += ("lineterminator", "delim_whitespace", "doublequote", "comment")
OTHER_SYNTAX += ("skiprows", "nrows", "skipfooter", "chunksize", "iterator")
WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
REAL = re.compile(r"-?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
LISTED = 10


def read_csv(
    path, texts: Sequence[str], others: Sequence[str], options: dict
) -> pd.DataFrame:
    """Reads a file with `pandas.read_csv`, or raises with its name.

    Args:
        path: path, or whatever `pandas.read_csv` takes.
        texts: sequence of strings, columns that stay text: 007 is not 7.
        others: sequence of strings, columns that become numbers or booleans
            if all their values are written like those.
        options: dict of options of `pandas.read_csv`.

    Returns:
        A `pandas.DataFrame`.

    Raises:
        ValueError: If the file cannot be decoded or parsed, if quotation
            marks swallow lines, or if lines have too many fields.
    """
    typed = options.get("dtype")
    converted = options.get("converters") or {}
    own = set(typed if isinstance(typed, dict) else ()) | set(converted)
    columns = [c for c in dict.fromkeys([*texts, *others]) if c not in own]
    if typed is None or isinstance(typed, dict):
        options = {
            **options,
            "dtype": {**dict.fromkeys(columns, str), **(typed or {})},
        }
    else:
        columns = []
    source = path
    try:
        if _is_local(path, options):
            text = _decoded(
                path,
                options.get("encoding"),
                options.get("encoding_errors", "strict"),
            )
            _check_quotes(text, path, options)
            _check_header(text, path, options, [*texts, *others])
            source = io.StringIO(text)
            options = {
                k: v for k, v in options.items() if not k.startswith("encoding")
            }
        frame = pd.read_csv(source, **options)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"The file {_name(path)} is empty.") from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"The file {_name(path)} is ragged: its lines differ in their "
            f"number of fields ({str(error).strip()}). Check `sep` (Received: "
            f"sep={options.get('sep', ',')!r}) and quotation marks; "
            "`on_bad_lines='warn'` drops such lines and names them, "
            "`quoting=csv.QUOTE_NONE` reads quotation marks as text."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(_encoding_message(path, error)) from error
    if "index_col" not in options and not isinstance(
        frame.index, pd.RangeIndex
    ):
        raise ValueError(
            f"The file {_name(path)} is ragged: its lines have more fields "
            f"than its header has names ({list(frame.columns)}). Check "
            "`sep`, complete the header, or name a column of row labels "
            "with `index_col=0`."
        )
    for column in dict.fromkeys(others):
        if column in columns and column in frame and column not in texts:
            frame[column] = _typed(frame[column])
    return frame


def _name(path) -> str:
    return (
        repr(os.fspath(path)) if isinstance(path, os.PathLike) else repr(path)
    )


def _is_local(path, options) -> bool:
    """Whether the file can be looked at before pandas reads it."""
    if not isinstance(path, (str, os.PathLike)):
        return False
    if options.get("compression", "infer") != "infer":
        return False
    name = os.fspath(path)
    return (
        isinstance(name, str)
        and "://" not in name
        and not name.endswith((".zip", ".tar", ".zst", ".tgz"))
    )


def _decoded(path, encoding, errors) -> str:
    opener: Any = OPENERS.get(os.path.splitext(os.fspath(path))[1], open)
    with opener(path, "rb") as file:
        content = file.read()
    if encoding is None and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(
            f"The file {_name(path)} is UTF-16, not UTF-8. Pass "
            "`encoding='utf-16'`."
        )
    try:
        text = content.decode(encoding or "utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(_encoding_message(path, error)) from error
    if "\x00" in text:
        raise ValueError(
            f"The file {_name(path)} holds NUL characters, as UTF-16 read as "
            "another encoding does. Pass `encoding='utf-16-le'` or "
            "`'utf-16-be'`."
        )
    return text.removeprefix("\ufeff")


def _encoding_message(path, error) -> str:
    return (
        f"The file {_name(path)} is not {error.encoding.upper()}: byte "
        f"{error.object[error.start]:#04x} at {error.start}. Pass its "
        "encoding, for instance `encoding='cp1252'` for files of Windows "
        "programs in Western Europe, or convert it to UTF-8."
    )


class _OpenField:
    """A quoted field that continues on the next line."""

    def __init__(self, number, line, position, separator, columns):
        self.number = number
        self.column = line[:position].count(separator)
        self.separators = line[position:].count(separator)
        # Whether the lines look as if each were a row by itself.
        self.looks_like_rows = self.column + self.separators == columns
        self.lines = 0

    def add(self, count, columns):
        self.lines += 1
        self.separators += count
        self.looks_like_rows &= count == columns

    def swallows_rows(self, last, separator):
        """Whether the field, which ends after `last`, holds whole rows."""
        count = last.count(separator)
        if separator == "\t":
            return bool(self.separators + count)
        return self.lines and self.looks_like_rows and count == self.column


def _check_quotes(text: str, path, options) -> None:
    """Raises if an unclosed quotation mark swallows lines."""
    separator = options.get("sep", options.get("delimiter", ","))
    if '"' not in text or any(name in options for name in OTHER_SYNTAX):
        return
    if not isinstance(separator, str) or len(separator) != 1:
        return
    wrong, field = [], None
    columns = text.split("\n", 1)[0].count(separator)
    for number, line in enumerate(text.split("\n"), start=1):
        if '"' not in line:
            if field is not None:
                field.add(line.count(separator), columns)
            continue
        line, position = line.removesuffix("\r"), 0
        if field is not None:
            end = _closing(line, 0)
            if end < 0:
                field.add(line.count(separator), columns)
                continue
            ends_there = line[end + 1 : end + 2] in ("", separator)
            if not ends_there or field.swallows_rows(line[:end], separator):
                wrong.append(field.number)
            field = None
            position = _next_field(line, end + 1, separator)
        while 0 <= position < len(line):
            end = position
            if line[position] == '"':
                end = _closing(line, position + 1)
                if end < 0:
                    field = _OpenField(
                        number, line, position, separator, columns
                    )
                    break
                end += 1
                if line[end : end + 1] not in ("", separator):
                    wrong.append(number)
            position = _next_field(line, end, separator)
    if field is not None:
        wrong.append(field.number)
    if wrong:
        lines = list(dict.fromkeys(wrong))
        raise ValueError(
            f"The file {_name(path)} has quotation marks that open a field "
            f"and are not closed at its end, in {len(lines)} places: lines "
            f"{', '.join(map(str, lines[:LISTED]))}"
            f"{' ...' if len(lines) > LISTED else ''}. Rows would be lost. "
            f"Where quotation marks are text, pass `quoting=csv.QUOTE_NONE` "
            f"({csv.QUOTE_NONE}); to read them as pandas does, pass "
            f"`quoting=csv.QUOTE_MINIMAL` ({csv.QUOTE_MINIMAL})."
        )


def _closing(line: str, position: int) -> int:
    """Where a quoted field ends, -1 if not in this line; two marks are one."""
    end = line.find('"', position)
    while end >= 0 and line[end + 1 : end + 2] == '"':
        end = line.find('"', end + 2)
    return end


def _next_field(line: str, position: int, separator: str) -> int:
    """The start of the next field, -1 after the last one."""
    at = line.find(separator, position)
    return -1 if at < 0 else at + 1


def _check_header(text: str, path, options, wanted) -> None:
    """Raises where the header names a wanted column twice."""
    if any(n in options for n in ("header", "names", *OTHER_SYNTAX[:-4])):
        return
    first = text.lstrip("\r\n").split("\n", 1)[0].removesuffix("\r")
    separator = options.get("sep", options.get("delimiter", ","))
    if not isinstance(separator, str) or len(separator) != 1:
        return
    names = next(csv.reader([first], delimiter=separator), [])
    twice = [c for c in dict.fromkeys(wanted) if names.count(c) > 1]
    if twice:
        raise ValueError(
            f"The file {_name(path)} has more than one column {twice}: which "
            f"is meant? Columns there are: {names}. Rename or remove one."
        )


def _typed(values: pd.Series) -> pd.Series:
    """Text as numbers or booleans, if all of it is written like those."""
    from keras_debias.data.labels import missing_labels

    known = values[~missing_labels(values.to_numpy(dtype=object))]
    if known.empty:
        return values
    distinct = known.unique()
    if set(distinct) <= {"True", "False"}:
        return values.map({"True": True, "False": False})
    if all(map(WHOLE.fullmatch, distinct)):
        numbers = [int(v) if WHOLE.fullmatch(str(v)) else v for v in values]
    elif all(map(REAL.fullmatch, distinct)) and any(
        not v.lstrip("-").isdigit() for v in distinct
    ):
        # Digits with leading zeros, such as 007, are a code.
        numbers = [float(v) if REAL.fullmatch(str(v)) else v for v in values]
    else:
        return values
    # Words for a missing label stay, so that a warning can name them.
    return pd.Series(numbers, index=values.index, dtype=object).infer_objects()
