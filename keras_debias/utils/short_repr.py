"""`ShortRepr`: results that show themselves in a line, or as a small table."""

import dataclasses

import numpy as np

from keras_debias.utils import html_page

LONGEST = 60
SHOWN = 3


class ShortRepr:
    """Gives a dataclass a short `repr`, and a table in notebooks.

    The dataclass is declared with `repr=False`. Numbers have four digits;
    what is long is described by its size.
    """

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v}" for k, v in _fields(self))
        return f"{type(self).__name__}({inside})"

    def _repr_html_(self) -> str:
        return html_page.fragment(
            [
                html_page.heading(type(self).__name__, 3),
                html_page.facts(_fields(self)),
            ]
        )


def _fields(value) -> list[tuple[str, str]]:
    return [
        (field.name, short(getattr(value, field.name)))
        for field in dataclasses.fields(value)
    ]


def short(value) -> str:
    """A value in few characters."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if hasattr(value, "shape") and np.size(value) > 1:
        shape = ", ".join(map(str, value.shape))
        return f"<{type(value).__name__} of shape ({shape})>"
    if isinstance(value, (list, tuple)):
        if len(value) > SHOWN:
            return f"<{len(value)} items>"
        inside = ", ".join(map(short, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, dict):
        if len(value) > SHOWN:
            return f"<{len(value)} entries>"
        inside = ", ".join(f"{k!r}: {short(v)}" for k, v in value.items())
        return f"{{{inside}}}"
    spelled = type(value).__str__ is not object.__str__
    if dataclasses.is_dataclass(value) and spelled:
        text = f"<{value}>"
    else:
        text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
