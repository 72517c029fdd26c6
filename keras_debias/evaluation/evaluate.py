"""`evaluate`: predict once, report everything."""

import dataclasses
import warnings
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_debias.data.arguments import check_batch_size
from keras_debias.data.arguments import check_flag
from keras_debias.data.arguments import check_int
from keras_debias.data.arguments import check_number
from keras_debias.data.arguments import check_seed
from keras_debias.data.checks import is_text
from keras_debias.data.duplicates import duplicates
from keras_debias.data.labels import check_label_names
from keras_debias.data.split import Split
from keras_debias.evaluation import outputs as model_outputs
from keras_debias.evaluation.folding import label_space
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import Settings
from keras_debias.evaluation.score_frame import score_frame
from keras_debias.evaluation.scores import Scores

LISTED = 10


def evaluate(
    model,
    splits: Split | Mapping[str, Split],
    *,
    train: Split | None = None,
    label_names: Sequence[str] | None = None,
    from_logits: bool | None = None,
    batch_size: int | None = None,
    sum_probabilities: bool = False,
    min_group_size: int = MIN_GROUP_SIZE,
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

    Rows count by the `sample_weight` of the split, if it has one. The scores
    also say in words what is wrong with a model that answers one class, has
    not learnt, or follows a group's attribute instead of the label.

    Args:
        model: Anything with `predict(x, batch_size=, verbose=)` that returns
            class scores of shape `(n, classes)`, logits or probabilities, or
            one score a row for two classes. `x` is passed as the split holds
            it.
        splits: `Split` with labels, or dict from name to such.
        train: `Split` or None: gives label names, and the group shares for
            `train_weighted_accuracy` where a split has the same groups.
            Texts of a split that it holds too are counted.
        label_names: Sequence of strings or None, the names of the model's
            outputs in their order.
        from_logits: Boolean or None. Whether outputs are logits, which
            decides the threshold of single outputs and of several labels (0,
            or 0.5 for probabilities). Defaults to None: as the model's last
            activation and compiled loss say.
        batch_size: Integer or None, passed to `model.predict`.
        sum_probabilities: Boolean. Where classes fold into one, whether
            their probabilities are summed before the arg-max; by default
            the arg-max is folded.
        min_group_size: Integer. Groups of fewer rows are reported and cannot
            be the worst; a warning names them. If all are smaller, all
            count. Defaults to 10.
        bootstrap: Integer, the number of resamples of the rows for the
            interval of the weighted F1; 0 for no intervals at all.
        confidence: Float between 0 and 1, that of the intervals; see
            `evaluation/intervals.py` for what they are.
        seed: Integer, of the resampling.
        verbose: Integer, passed to `model.predict`.

    Returns:
        `Scores`. Rows with several labels (multi-hot `y`) are right if all
        labels are.

    Raises:
        ValueError: If labels and outputs do not fit, predictions are NaN, or
            nobody knows whether single outputs are logits.
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
    if isinstance(model, type) or not callable(getattr(model, "predict", None)):
        raise TypeError(
            "`model` must have a method `predict(x, batch_size=, verbose=)`. "
            f"Received: {type(model).__name__}"
        )
    settings = Settings(
        min_group_size=check_int("min_group_size", min_group_size, 1),
        bootstrap=check_int("bootstrap", bootstrap, 0),
        confidence=check_number(
            "confidence", confidence, 0, 1, above=True, below=True
        ),
        seed=check_seed(seed),
    )
    check_batch_size(batch_size)
    check_flag("sum_probabilities", sum_probabilities)
    if from_logits is not None:
        check_flag("from_logits", from_logits)
    names = model_label_names(model, label_names, train)
    warn_of_groups(splits, settings.min_group_size)
    for name, split in splits.items():
        if names is not None and split.label_names is None:
            _warn_of_integer_labels(name, split, names)
    return score_splits(
        model,
        splits,
        train=train,
        label_names=label_names,
        from_logits=from_logits,
        batch_size=batch_size,
        sum_probabilities=sum_probabilities,
        settings=settings,
        verbose=verbose,
    )


def score_splits(
    model,
    splits: Mapping[str, Split],
    *,
    settings: Settings,
    train: Split | None = None,
    label_names: Sequence[str] | None = None,
    from_logits: bool | None = None,
    batch_size: int | None = None,
    sum_probabilities: bool = False,
    verbose: int = 0,
) -> Scores:
    """`evaluate` of checked arguments, without a warning."""
    names = model_label_names(model, label_names, train)
    logits = model_outputs.are_logits(model, from_logits)
    scores, frames = [], []
    for name, split in splits.items():
        predicted = model.predict(
            split.x, batch_size=batch_size, verbose=verbose
        )
        outputs = model_outputs.check_outputs(predicted, len(split), name)
        several = split.y.ndim == 2 and not _is_one_hot(split.y)
        if several:
            labels, predictions, space = _multi_label(
                split, outputs, names, logits
            )
        else:
            labels, predictions, space = _single_label(
                name, split, outputs, names, sum_probabilities, logits
            )
        frame = _frame(name, split, labels, predictions, space)
        score = score_frame(
            frame,
            () if split.groups is None else split.groups.names,
            None if split.groups is None else split.groups.members(),
            several=(labels, predictions) if several else None,
            shares=None
            if train is None or train.groups is None
            else train.groups.shares(),
            settings=settings,
        )
        notes = list(score.notes)
        if names is None and split.label_names is not None:
            notes.append(
                "The model has no label names; its outputs are read in the "
                f"order {', '.join(space)}."
            )
        notes += _shared_texts(split, train)
        scores.append(dataclasses.replace(score, notes=tuple(notes)))
        frames.append(frame)
    return Scores(
        scores,
        pd.concat(frames, ignore_index=True),
        settings.confidence if settings.bootstrap else None,
    )


def _warn_of_integer_labels(name, split, names) -> None:
    if split.y.ndim != 1 or all(label.isdecimal() for label in names):
        return
    order = ", ".join(f"{i} is {label!r}" for i, label in enumerate(names))
    warnings.warn(
        f"The labels of the split {name!r} are integers without names, read "
        f"as indices of the model's outputs: {order}. Give the split "
        "`label_names` to have them compared by name.",
        stacklevel=3,
    )


def _shared_texts(split, train) -> list[str]:
    """A note on texts of a split that the training data holds too."""
    if train is None or train is split:
        return []
    x = split.x if isinstance(split.x, tuple) else (split.x,)
    if isinstance(split.x, dict) or not all(map(is_text, x)):
        return []
    found = duplicates({"train": train, "split": split})
    found = found[(found["first"] == "train") & (found["second"] == "split")]
    if found.empty:
        return []
    return [
        f"{found['rows'].iloc[0]:,} of {len(split):,} rows have inputs that "
        "the training data holds too."
    ]


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
        weight = split.sample_weight
        if weight is not None and (weight.ndim != 1 or not weight.sum()):
            raise ValueError(
                f"`splits[{name!r}]` must have one weight a row, not all "
                f"zero. Received: sample_weight of shape {weight.shape} that "
                f"sums to {weight.sum():g}"
            )
    return dict(splits)


def warn_of_groups(
    splits: Mapping[str, Split], min_group_size: int, stacklevel: int = 3
) -> None:
    """Warns of groups that are too small to be the worst, or empty."""
    for name, split in splits.items():
        if split.groups is None:
            continue
        counts = split.groups.counts()
        empty = [group for group, count in counts.items() if not count]
        small = {g: c for g, c in counts.items() if 0 < c < min_group_size}
        if empty:
            warnings.warn(
                f"{len(empty)} of {len(counts)} groups of the "
                f"split {name!r} have no row and are left out of the worst "
                f"group: {empty[:LISTED]}",
                stacklevel=stacklevel,
            )
        if not small:
            continue
        listed = dict(list(small.items())[:LISTED])
        if len(small) + len(empty) == len(counts):
            warnings.warn(
                f"No group of the split {name!r} has `min_group_size="
                f"{min_group_size}` rows, so the worst group is sought among "
                f"all of them and means little: {listed}",
                stacklevel=stacklevel,
            )
            continue
        warnings.warn(
            f"{len(small)} of {len(counts)} groups of the split {name!r} have "
            f"fewer than `min_group_size={min_group_size}` rows and are left "
            f"out of the worst group: {listed}",
            stacklevel=stacklevel,
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


def _single_label(name, split, outputs, names, sum_probabilities, logits):
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
        return y, model_outputs.classes(outputs, logits), names
    space = label_space(names, split.label_names)
    if sum_probabilities and space.folds_model:
        summed = np.zeros((len(y), len(space.names)))
        columns = model_outputs.probabilities(outputs, logits)
        for column, target in enumerate(space.from_model):
            summed[:, target] += columns[:, column]
        predictions = summed.argmax(axis=1)
    else:
        predictions = space.from_model[model_outputs.classes(outputs, logits)]
    return space.from_split[y], predictions, space.names


def _multi_label(split, outputs, names, logits):
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
    predictions = model_outputs.above_threshold(outputs, logits)
    return split.y > 0.5, predictions, names


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
    columns = {
        "split": name,
        "row": np.arange(len(split)),
        "label": _spelled(labels, names),
        "prediction": _spelled(predictions, names),
        "group": None if split.groups is None else split.groups.row_names(),
    }
    if split.sample_weight is not None:
        columns["weight"] = split.sample_weight.astype("float64")
    return pd.DataFrame(columns)
