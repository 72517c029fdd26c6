"""The fields of a split: the named parts of its inputs."""

from collections.abc import Sequence

import numpy as np

from keras_debias.data.checks import is_text
from keras_debias.data.image_files import ImageFiles

PAIR = ("premise", "hypothesis")


def is_images(values) -> bool:
    """Whether an array holds images, channels last."""
    return (
        isinstance(values, (np.ndarray, ImageFiles))
        and values.ndim == 4
        and values.shape[-1] in (1, 3, 4)
        and values.dtype.kind in "uif"
    )


def field_values(split, column):
    """The values of one field of a split, or raises."""
    x = split.x
    if isinstance(x, tuple):
        if isinstance(column, int) and column < len(x):
            return x[column]
    elif isinstance(x, dict):
        if column in x:
            return x[column]
    elif column == 0:
        return x
    raise ValueError(
        "Expected a split with the fields of the one that was audited. "
        f"Received: {split}, which has no field {column!r}"
    )


def fields_of(split, names: Sequence[str] | None) -> dict:
    """The fields to be audited: column -> name.

    Texts, or one array of images. In a dict, the parts that hold texts
    count, under their own names.
    """
    x = split.x
    if isinstance(x, dict):
        columns = [key for key, values in x.items() if is_text(values)]
        defaults = [str(column) for column in columns]
    elif isinstance(x, tuple):
        columns = list(range(len(x))) if all(map(is_text, x)) else []
        defaults = (
            list(PAIR)
            if len(x) == 2
            else [f"text {i + 1}" for i in range(len(x))]
        )
    else:
        columns = [0] if is_text(x) or is_images(x) else []
        defaults = ["text" if is_text(x) else "image"]
    if not columns:
        raise TypeError(
            "Expected a split of texts, of tuples of texts, or of images "
            "(an array of shape `(n, height, width, channels)`). Received: "
            f"{split}"
        )
    if names is None:
        names = defaults
    if isinstance(names, str) or len(names) != len(columns):
        raise ValueError(
            f"Expected `fields` with {len(columns)} names, one for each text. "
            f"Received: fields={names!r}"
        )
    return dict(zip(columns, map(str, names), strict=True))
