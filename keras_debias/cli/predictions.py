"""Scores of predictions that a file holds."""

import pathlib

import numpy as np
import pandas as pd

from keras_debias.cli.tables import check_by_label
from keras_debias.cli.tables import numbers
from keras_debias.data.split import Split
from keras_debias.data.table_file import read_table
from keras_debias.evaluation.evaluate import evaluate
from keras_debias.evaluation.scores import Scores


class _Known:
    """A model whose predictions are known: the inputs are row numbers."""

    def __init__(self, outputs: np.ndarray):
        self.outputs = outputs

    def predict(self, x, batch_size=None, verbose=0):
        return self.outputs[x]


def scores_of_file(options) -> Scores:
    """The scores that `keras-debias evaluate` shows.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: If a column is missing or empty in places, or the
            predictions are neither labels nor probabilities.
    """
    path = pathlib.Path(options.data)
    columns = [options.label, options.prediction, *options.groups]
    frame = read_table(path, [], columns)
    _check_columns(frame, columns, options)
    labels, predictions = frame[options.label], frame[options.prediction]
    if options.regression:
        return _scores_of_numbers(frame, path, options)
    said_names = _names_of(predictions, labels)
    shares = _are_shares(labels, predictions, said_names)
    present = {str(v) for v in labels}
    names = sorted(present | (set() if shares else set(said_names)))
    if shares:
        if len(names) != 2:
            raise ValueError(
                "Expected two labels with a column of probabilities, "
                f"received {len(names)}: {names[:10]}. For more, give the "
                "predicted labels."
            )
        said = (predictions >= options.threshold).astype(int)
    else:
        if len(present) > 1 and len(set(said_names)) > 1:
            _check_written_alike(present, set(said_names))
        index = {name: number for number, name in enumerate(names)}
        said = said_names.map(index)
    rows = pd.DataFrame({"row": np.arange(len(frame))})
    rows["label"] = labels.map(str).to_numpy()
    for column in options.groups:
        rows[column] = frame[column].to_numpy()
    split = Split.from_pandas(
        rows,
        "row",
        "label",
        tuple(options.groups),
        names,
        name=path.name.split(".")[0],
        by_label=options.by_label,
        overlapping=options.overlapping,
    )
    return evaluate(
        _Known(np.eye(len(names))[said.to_numpy()]),
        split,
        label_names=names,
        from_logits=False,
        min_group_size=options.min_group_size,
    )


def _scores_of_numbers(frame, path, options) -> Scores:
    check_by_label(options)
    rows = pd.DataFrame({"row": np.arange(len(frame))})
    # Of shape (n, 1): whole numbers are targets as well.
    y = numbers(frame[options.label]).to_numpy()[:, None]
    for column in options.groups:
        rows[column] = frame[column].to_numpy()
    groups = Split.from_pandas(
        rows,
        "row",
        groups=tuple(options.groups),
        overlapping=options.overlapping,
    ).groups
    split = Split(
        rows["row"].to_numpy(), y, groups, name=path.name.split(".")[0]
    )
    return evaluate(
        _Known(numbers(frame[options.prediction]).to_numpy()),
        split,
        min_group_size=options.min_group_size,
    )


def _check_columns(frame, columns, options) -> None:
    absent = [c for c in columns if c not in frame]
    if absent:
        raise ValueError(
            f"Expected the columns {columns}, received a file without "
            f"{absent}. It has {list(frame.columns)}."
        )
    if not len(frame):
        raise ValueError("Expected a file with rows, received none")
    for column in (options.label, options.prediction):
        missing = int(frame[column].isna().sum())
        if missing:
            raise ValueError(
                f"Expected a value in each row of {column!r}, received "
                f"{missing} empty ones of {len(frame)}"
            )


def _names_of(predictions, labels):
    """Predictions as names of labels: `1.0`, `1` and `True` are one number."""
    numeric = "biuf"
    if (
        labels.dtype.kind not in numeric
        or predictions.dtype.kind not in numeric
    ):
        return predictions.map(str)
    names = {float(value): str(value) for value in labels}
    return predictions.map(lambda value: names.get(float(value), str(value)))


def _check_written_alike(labels: set, predictions: set) -> None:
    """Raises if no prediction is the name of a label."""
    if not labels & predictions:
        raise ValueError(
            f"Expected predictions among the labels {sorted(labels)[:10]}, "
            f"received {sorted(predictions)[:10]}. Write both alike."
        )


def _are_shares(labels, predictions, said_names) -> bool:
    """Whether predictions are probabilities, and not labels."""
    if predictions.dtype.kind != "f":
        return False
    if set(said_names) <= set(map(str, labels)):
        return False
    if not predictions.between(0, 1).all():
        raise ValueError(
            "Expected predicted labels, or probabilities between 0 and 1, "
            f"received numbers from {predictions.min():g} to "
            f"{predictions.max():g}"
        )
    return True
