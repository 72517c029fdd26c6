"""Checks that recipes share."""

import numpy as np

from keras_debias.features.cut_at_head import cut_at_head
from keras_debias.utils.numbers import is_number


def check_share(value, name) -> None:
    """Raises unless `value` is above 0 and below 1."""
    if not (is_number(value) and 0 < value < 1):
        raise ValueError(
            f"Expected `{name}` between 0 and 1, both excluded. "
            f"Received: {name}={value}"
        )


def check_bias_only(value) -> None:
    """Raises unless `value` is a bias-only model."""
    if isinstance(value, type) or not hasattr(value, "out_of_fold"):
        raise TypeError(
            "Expected `bias_only` to be a bias-only model such as "
            f"`BagOfWords()`. Received: bias_only={value!r}"
        )


def check_head(network, train) -> None:
    """Raises unless a network's last layer has one output for each class."""
    _, head = cut_at_head(network)
    classes = int(train.y.max()) + 1
    if head.units < classes:
        raise ValueError(
            "Expected a last `Dense` layer with one output for each class. "
            f"Received: {head.units} outputs for {classes} classes. For two "
            "classes use two outputs, with a sparse categorical cross entropy."
        )


def is_regression(train) -> bool:
    """Whether the labels are numbers, one a row."""
    y = train.y
    return (
        y is not None
        and y.dtype.kind == "f"
        and (y.ndim == 1 or y.shape[1:] == (1,))
    )


def check_class_labels(train, recipe) -> None:
    """Raises unless the rows have one class each, of at least two."""
    y = train.y
    if is_regression(train):
        raise ValueError(
            f"Expected one class label a row for `{type(recipe).__name__}`. "
            f"Received: {train!r}, whose labels are numbers (a regression). "
            "Use `FineTuning()`, with `objective=kd.losses.GroupDRO(...)` "
            "where groups are known, or `BalancedSampling()`."
        )
    if y is None or y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"Expected one class label a row for `{type(recipe).__name__}`. "
            f"Received: {train!r}. Use `FineTuning()`, which takes any labels."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(
            "Expected rows of at least two classes for "
            f"`{type(recipe).__name__}`. Received: {len(train)} rows of one"
        )
