"""Predictions of a model, checked against the split that they belong to."""

import numpy as np

from keras_debias.data.checks import class_labels
from keras_debias.data.labels import match_labels

ANOTHER = "Are these the predictions of another split?"


def predicted_labels(split, predictions) -> np.ndarray:
    """What a model predicts for each row, in the form of `split.y`.

    Args:
        split: `Split` with one class a row, or with multi-hot labels.
        predictions: see `audit`.

    Returns:
        An int array of shape `(n,)` of class ids, or for multi-hot labels a
        float array of zeros and ones of shape `(n, labels)`.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim == 0 or len(predictions) != len(split):
        size = "a scalar" if predictions.ndim == 0 else str(len(predictions))
        raise ValueError(
            f"Expected one prediction for each of the {len(split)} rows. "
            f"Received: {size}. {ANOTHER}"
        )
    if split.y is not None and split.y.ndim == 2:
        return _multi_hot(split, predictions)
    y = class_labels(split, "`predictions`")
    classes = len(split.label_names or ()) or int(y.max()) + 1
    if predictions.ndim == 2:
        return _highest(predictions, classes)
    if predictions.ndim > 2 or predictions.dtype.kind == "f":
        raise TypeError(
            "Expected `predictions` to be class ids or label names of shape "
            "`(n,)`, or probabilities of shape `(n, classes)`. Received: "
            f"shape {predictions.shape}, dtype {predictions.dtype}. Where a "
            "model has one output `p`, pass `(p > 0.5).astype(int)`."
        )
    if predictions.dtype.kind in "OUT":
        return _named(split, predictions)
    if predictions.dtype.kind not in "biu":
        raise TypeError(
            "Expected `predictions` to hold class ids, label names or "
            f"probabilities. Received: dtype {predictions.dtype}"
        )
    wrong = (predictions < 0) | (predictions >= classes)
    if wrong.any():
        raise ValueError(
            f"Expected class ids from 0 to {classes - 1}. Received: "
            f"{predictions[wrong][0]} in row {np.argmax(wrong)}. {ANOTHER}"
        )
    return predictions.astype("int32")


def _multi_hot(split, predictions):
    if predictions.shape != split.y.shape or not (
        predictions.dtype.kind in "biuf" and np.isin(predictions, (0, 1)).all()
    ):
        raise ValueError(
            "Expected `predictions` of zeros and ones of shape "
            f"{split.y.shape}, as the labels. Received: shape "
            f"{predictions.shape}, dtype {predictions.dtype}. Compare "
            "probabilities with a threshold first."
        )
    return predictions.astype("float64")


def _highest(predictions, classes):
    if predictions.shape[1] != classes or predictions.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected probabilities of shape (n, {classes}), one column for "
            f"each class. Received: shape {predictions.shape}, dtype "
            f"{predictions.dtype}. {ANOTHER}"
        )
    finite = np.isfinite(predictions).all(axis=1)
    if not finite.all():
        raise ValueError(
            "Expected finite probabilities. Received: "
            f"{predictions[~finite][0]} in row {np.argmin(finite)}"
        )
    return predictions.argmax(axis=1).astype("int32")


def _named(split, predictions):
    known = split.label_names
    if known is None:
        raise ValueError(
            "Expected `predictions` to be class ids, as the split has no "
            f"`label_names`. Received: {predictions[0]!r}, ..."
        )
    names, codes = np.unique(predictions.astype(str), return_inverse=True)
    indices = match_labels(names.tolist(), known)
    unknown = [n for n, i in zip(names, indices, strict=True) if i is None]
    if unknown:
        raise ValueError(
            f"Expected predictions among the labels {known}. Received: "
            f"{[str(name) for name in unknown[:10]]}. {ANOTHER}"
        )
    return np.asarray(indices, dtype="int32")[codes]
