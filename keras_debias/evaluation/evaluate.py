"""`evaluate`: predict once, report everything."""

import warnings
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from keras_debias.data.labels import check_label_names
from keras_debias.data.split import Split
from keras_debias.evaluation import outputs as model_outputs
from keras_debias.evaluation.bootstrap import bootstrap_intervals
from keras_debias.evaluation.folding import label_space
from keras_debias.evaluation.scores import GroupScore
from keras_debias.evaluation.scores import Scores
from keras_debias.evaluation.scores import SplitScore
from keras_debias.metrics.group_accuracy import group_accuracy
from keras_debias.metrics.group_accuracy import weighted_group_accuracy
from keras_debias.metrics.group_accuracy import worst_group


def evaluate(
    model,
    splits: Split | Mapping[str, Split],
    *,
    train: Split | None = None,
    label_names: Sequence[str] | None = None,
    batch_size: int | None = None,
    sum_probabilities: bool = False,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    verbose: int = 0,
) -> Scores:
    """Measures a model overall and by group, from one pass over each split.

    Labels are compared by name. The names of the model's outputs are
    `label_names`, else `model.label_names`, else those of `train`, else
    those of the split if their number fits. Where the split knows X and
    "not X" only, every other class of the model counts as "not X".

    Args:
        model: Anything with `predict(x, batch_size=, verbose=)` that returns
            class scores of shape `(n, classes)`, logits or probabilities, or
            one score a row for two classes (thresholds: 0.5 if all are in
            [0, 1], else 0). `x` is passed as the split holds it.
        splits: `Split` with labels, or dict from name to such.
        train: `Split` or None: gives label names, and the group shares for
            `train_weighted_accuracy` where a split has the same groups.
        label_names: Sequence of strings or None, the names of the model's
            outputs in their order.
        batch_size: Integer or None, passed to `model.predict`.
        sum_probabilities: Boolean. Where classes fold into one, whether
            their probabilities are summed before the arg-max; by default
            the arg-max is folded.
        bootstrap: Integer, the number of resamples of the rows for the
            intervals; 0 for none.
        confidence: Float between 0 and 1, that of the intervals.
        seed: Integer, of the resampling.
        verbose: Integer, passed to `model.predict`.

    Returns:
        `Scores`. Rows with several labels (multi-hot `y`) are right if all
        labels are.

    Raises:
        ValueError: If labels and outputs do not fit, or predictions are NaN.
        TypeError: If an argument has the wrong type.

    Example:

    ```python
    scores = keras_debias.evaluate(model, {"test": test, "hans": hans})
    print(scores)
    scores["hans"].worst_group_accuracy
    ```
    """
    splits = check_splits(splits)
    if train is not None and not isinstance(train, Split):
        raise TypeError(
            f"`train` must be a `Split` or None. Received: {type(train)}"
        )
    if not callable(getattr(model, "predict", None)):
        raise TypeError(
            "`model` must have a method `predict(x, batch_size=, verbose=)`. "
            f"Received: {type(model).__name__}"
        )
    if isinstance(bootstrap, bool) or int(bootstrap) != bootstrap:
        raise TypeError(
            f"`bootstrap` must be an integer. Received: {bootstrap!r}"
        )
    if bootstrap < 0 or not 0 < confidence < 1:
        raise ValueError(
            "`bootstrap` must not be negative, and `confidence` must be "
            f"between 0 and 1. Received: bootstrap={bootstrap}, "
            f"confidence={confidence}"
        )
    names = model_label_names(model, label_names, train)
    warn_of_empty_groups(splits)
    scores, frames = [], []
    for name, split in splits.items():
        predicted = model.predict(
            split.x, batch_size=batch_size, verbose=verbose
        )
        outputs = model_outputs.check_outputs(predicted, len(split), name)
        if split.y.ndim == 2 and not _is_one_hot(split.y):
            labels, predictions, space = _multi_label(split, outputs, names)
        else:
            labels, predictions, space = _single_label(
                name, split, outputs, names, sum_probabilities
            )
        # a seed of its own, so that a split's interval is the same alone
        rng = np.random.default_rng(seed)
        scores.append(
            _score(
                name,
                split,
                labels,
                predictions,
                train,
                bootstrap,
                confidence,
                rng,
            )
        )
        frames.append(_frame(name, split, labels, predictions, space))
    return Scores(
        scores,
        pd.concat(frames, ignore_index=True),
        confidence if bootstrap else None,
    )


def check_splits(splits) -> dict[str, Split]:
    """Returns named splits with labels, or raises."""
    if isinstance(splits, Split):
        splits = {splits.name or "test": splits}
    if not isinstance(splits, Mapping):
        raise TypeError(
            "`splits` must be a `Split` or a dict from name to `Split`. "
            f"Received: {type(splits).__name__}"
        )
    if not splits:
        raise ValueError(
            "`splits` must hold at least one split. Received: splits={}"
        )
    for name, split in splits.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                "The names in `splits` must be non-empty strings. Received: "
                f"{name!r}"
            )
        if not isinstance(split, Split):
            raise TypeError(
                f"`splits[{name!r}]` must be a `Split`. Received: "
                f"{type(split).__name__}. Use `keras_debias.data.Split(x, y)`."
            )
        if split.y is None:
            raise ValueError(
                f"`splits[{name!r}]` has no labels. Received: y=None"
            )
        if split.y.dtype.kind == "f" and split.y.ndim == 1:
            raise ValueError(
                f"`splits[{name!r}]` must have class labels: integers or "
                f"strings. Received: y of dtype {split.y.dtype}. Cast whole "
                "numbers with `y.astype('int32')`."
            )
        if split.y.ndim > 2:
            raise ValueError(
                f"`splits[{name!r}]` must have one label, or one multi-hot "
                f"vector, a row. Received: y of shape {split.y.shape}"
            )
    return dict(splits)


def warn_of_empty_groups(splits: Mapping[str, Split]) -> None:
    """Warns of declared groups without rows."""
    for name, split in splits.items():
        if split.groups is None:
            continue
        empty = [g for g, count in split.groups.counts().items() if not count]
        if empty:
            warnings.warn(
                f"{len(empty)} of {len(split.groups.names)} groups of the "
                f"split {name!r} have no row and are left out of the worst "
                f"group: {empty}",
                stacklevel=3,
            )


def model_label_names(model, label_names, train) -> tuple[str, ...] | None:
    """Returns the names of the model's outputs, None if nobody knows."""
    if label_names is None:
        label_names = getattr(model, "label_names", None)
    if label_names is None and train is not None:
        label_names = train.label_names
    return None if label_names is None else check_label_names(label_names)


def _is_one_hot(y: np.ndarray) -> bool:
    return y.shape[1] > 1 and bool(
        (((y == 0) | (y == 1)).all()) and (y.sum(axis=1) == 1).all()
    )


def _output_names(name, split, outputs, names) -> tuple[str, ...]:
    count = model_outputs.num_classes(outputs)
    if names is not None:
        if len(names) != count:
            raise ValueError(
                f"The model has {count} classes but {len(names)} label names. "
                f"Received: label names {names} for outputs of shape "
                f"{outputs.shape}."
            )
        return names
    if split.label_names is None:
        return tuple(str(i) for i in range(count))
    if len(split.label_names) == count:
        return split.label_names
    raise ValueError(
        f"The model has {count} classes and the split {name!r} has the "
        f"labels {split.label_names}: which output is which? Name the "
        "outputs in their order with `label_names=`, set "
        "`model.label_names`, or pass `train=`."
    )


def _single_label(name, split, outputs, names, sum_probabilities):
    names = _output_names(name, split, outputs, names)
    y = split.y
    if y.ndim == 2:
        y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    y = y.astype("int64")
    if split.label_names is None:
        # labels without names are indices of the model's outputs
        if y.min() < 0 or y.max() >= len(names):
            raise ValueError(
                f"The labels of the split {name!r} must be between 0 and "
                f"{len(names) - 1}, the classes of the model. Received: "
                f"labels from {y.min()} to {y.max()}"
            )
        return y, model_outputs.classes(outputs), names
    space = label_space(names, split.label_names)
    if sum_probabilities and space.folds_model:
        summed = np.zeros((len(y), len(space.names)))
        columns = model_outputs.probabilities(outputs)
        for column, target in enumerate(space.from_model):
            summed[:, target] += columns[:, column]
        predictions = summed.argmax(axis=1)
    else:
        predictions = space.from_model[model_outputs.classes(outputs)]
    return space.from_split[y], predictions, space.names


def _multi_label(split, outputs, names):
    if split.y.shape != outputs.shape:
        raise ValueError(
            "Multi-hot labels need one output a label. Received: labels of "
            f"shape {split.y.shape}, outputs of shape {outputs.shape}"
        )
    own = split.label_names
    if own is not None and names is not None:
        names = _output_names("", split, outputs, names)
        order = label_space(names, own).from_split
        outputs = outputs[:, order]
    names = own or names or tuple(map(str, range(split.y.shape[1])))
    predictions = model_outputs.above_threshold(outputs)
    return split.y > 0.5, predictions, names


def _score(
    name, split, labels, predictions, train, bootstrap, confidence, rng
) -> SplitScore:
    correct = labels == predictions
    if correct.ndim == 2:
        correct = correct.all(axis=1)
    accuracy = float(correct.mean())
    weighted_f1 = f1_score(
        labels, predictions, average="weighted", zero_division=0
    )
    groups = split.groups
    count = 0 if groups is None else len(groups.names)
    ids = None if groups is None else groups.ids
    intervals = bootstrap_intervals(
        correct, ids, count, bootstrap, confidence, rng
    )
    if groups is None:
        return SplitScore(
            name,
            len(split),
            accuracy,
            float(weighted_f1),
            accuracy_interval=intervals.accuracy,
        )
    accuracies, counts = group_accuracy(correct, ids, count)
    worst = worst_group(accuracies)
    by_group = tuple(
        GroupScore(
            group,
            int(counts[i]),
            float(accuracies[i]) if counts[i] else None,
            intervals.groups[i] if intervals.groups and counts[i] else None,
        )
        for i, group in enumerate(groups.names)
    )
    weighted = None
    if train is not None and train.groups is not None:
        shares = train.groups.shares()
        if set(shares) == set(groups.names):
            weighted = weighted_group_accuracy(
                accuracies, [shares[group] for group in groups.names]
            )
    return SplitScore(
        name,
        len(split),
        accuracy,
        float(weighted_f1),
        by_group,
        groups.names[worst],
        float(accuracies[worst]),
        accuracy - float(accuracies[worst]),
        weighted if weighted == weighted else None,  # NaN: no shared rows
        intervals.accuracy,
        intervals.worst_group_accuracy,
        intervals.gap,
    )


def _spelled(values, names) -> np.ndarray:
    if values.ndim == 1:
        return np.asarray(names, dtype=object)[values]
    return np.array(
        [
            "|".join(n for n, on in zip(names, row, strict=True) if on)
            for row in values
        ],
        dtype=object,
    )


def _frame(name, split, labels, predictions, names) -> pd.DataFrame:
    group = None
    if split.groups is not None:
        spelled = np.asarray(split.groups.names, dtype=object)
        group = spelled[split.groups.ids]
    return pd.DataFrame(
        {
            "split": name,
            "row": np.arange(len(split)),
            "label": _spelled(labels, names),
            "prediction": _spelled(predictions, names),
            "group": group,
        }
    )
