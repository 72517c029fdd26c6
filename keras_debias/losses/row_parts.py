"""Rows spread over processes: what a step on some of them asks for.

Within `across(parts)` the logits are those of the rows of this process.
Losses and regularizers then sum up what is small, and no process sees the
logits of another. Outside of it, all rows are here.
"""

import contextlib
import contextvars

_ACTIVE = contextvars.ContextVar("row_parts", default=None)


@contextlib.contextmanager
def across(parts):
    """Within it, sums go over the rows of all processes.

    Args:
        parts: an object with `size`, the number of processes, and `total`,
            `joined` and `own`, as the functions below; or `None`: all rows
            are here.
    """
    token = _ACTIVE.set(parts)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def total(tensor):
    """A sum over the rows here as one over all rows."""
    parts = _ACTIVE.get()
    return tensor if parts is None else parts.total(tensor)


def joined(tensor):
    """One small value or vector a row, for all rows."""
    parts = _ACTIVE.get()
    return tensor if parts is None else parts.joined(tensor)


def own(tensor):
    """Of something with a value for each row, those of the rows here."""
    parts = _ACTIVE.get()
    return tensor if parts is None else parts.own(tensor)


def num_parts() -> int:
    """How many processes there are: what gradients are divided by later."""
    parts = _ACTIVE.get()
    return 1 if parts is None else parts.size
