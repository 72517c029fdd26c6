"""Rows of a split as a table to read."""

import numpy as np
import pandas as pd

from keras_debias.auditing.fields import field_values
from keras_debias.auditing.fields import fields_of
from keras_debias.data.checks import is_text
from keras_debias.data.image_files import ImageFiles


def example_rows(split, kinds: dict, n: int, seed: int) -> pd.DataFrame:
    """Draws rows of several kinds.

    Args:
        split: `Split`.
        kinds: dict from a name to a boolean array of shape `(n,)`.
        n: int, how many rows of each kind at most.
        seed: int.

    Returns:
        `pandas.DataFrame` with the columns `example` (the kind), `row`,
        `label` and, for texts, one column for each field; for images in
        files the column `file`.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(
            f"Expected `n` to be an integer of at least 1. Received: n={n!r}"
        )
    rng = np.random.default_rng(seed)
    drawn = [
        np.sort(rng.permutation(np.flatnonzero(mask))[:n])
        for mask in kinds.values()
    ]
    rows = np.concatenate(drawn)
    columns = {
        "example": np.repeat(list(kinds), [len(part) for part in drawn]),
        "row": rows,
        "label": [label_text(split, row) for row in rows],
    }
    for column, name in fields_of(split, None).items():
        values = field_values(split, column)
        if is_text(values):
            columns[name] = values[rows]
        elif isinstance(values, ImageFiles):
            columns["file"] = values.paths[rows]
    return pd.DataFrame(columns)


def has_label(split, label: str) -> np.ndarray:
    """Which rows have a label, given by its name."""
    if split.y is None:
        raise ValueError("Expected a split with labels. Received: y=None")
    size = split.y.shape[1] if split.y.ndim == 2 else int(split.y.max()) + 1
    names = split.label_names or tuple(map(str, range(size)))
    if label not in names:
        raise ValueError(
            f"Expected a split with the label {label!r}. Received: labels "
            f"{names}"
        )
    position = names.index(label)
    if split.y.ndim == 2:
        return split.y[:, position] == 1
    return split.y == position


def label_text(split, row) -> str:
    """The label or the labels of a row as text; a number as it is."""
    y = split.y[row]
    if split.y.dtype.kind == "f" and split.y.size == len(split):
        return f"{y.item():g}"
    codes = [int(y)] if np.ndim(y) == 0 else np.flatnonzero(y).tolist()
    names = split.label_names
    return ", ".join(str(c) if names is None else names[c] for c in codes)
