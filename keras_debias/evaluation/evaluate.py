"""`evaluate`: predict once, report everything."""

import dataclasses
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

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
from keras_debias.evaluation.fitting_splits import check_split
from keras_debias.evaluation.generation import is_generation
from keras_debias.evaluation.generation import read_answers
from keras_debias.evaluation.predicted import kind_of
from keras_debias.evaluation.predicted import read_outputs
from keras_debias.evaluation.predicted import task_of
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import Settings
from keras_debias.evaluation.score_frame import score_frame
from keras_debias.evaluation.score_metrics import score_metrics
from keras_debias.evaluation.scores import Scores
from keras_debias.metrics.get import ARGMAX
from keras_debias.metrics.get import GENERATION
from keras_debias.metrics.get import REGRESSION
from keras_debias.metrics.get import named_metrics
from keras_debias.metrics.metric import Metric

LISTED = 10


def evaluate(
    model,
    splits: Split | Mapping[str, Split],
    *,
    metrics: Mapping | Sequence | None = None,
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
    `label_names`, else `model.label_names`, else those of `train`, else those
    of the split if their number fits. If a split has only X and "not X", every
    other class of the model counts as "not X".

    Rows count by the `sample_weight` of the split, if it has one. The scores
    also say in words if a model answers only one class, has not learned, or
    follows a group's attribute instead of the label.

    Further metrics are computed the same way: for all rows, for each group and
    for the worst one, with gap, ratio and intervals. Float labels are the
    targets of a regression. Then there is no accuracy, and the default metrics
    are `rmse`, `mae`, `r2`, `pearson` and `spearman`.

    A causal language model generates answers if a split comes from
    `kd.data.prompt_response`; an encoder-decoder does if `x` is a dict of the
    texts `encoder_text` (prompts) and `decoder_text` (references). Answers are
    generated greedily, a batch at a time, up to the length of the arrays or
    the preprocessor's `decoder_sequence_length`. The default metrics are
    `exact_match`, `token_f1` and `reference_nll`. A function of
    `(references, answers)` may be a metric. A progress bar appears after five
    seconds.

    Args:
        model: Anything with `predict(x, batch_size=, verbose=)` that returns
            class scores of shape `(n, classes)`, logits or probabilities, or
            one score a row for two classes. `x` is passed as the split holds
            it.
        splits: `Split` with labels, or dict from name to such.
        metrics: dict from name to metric, or sequence of metrics: names such
            as `"macro_f1"` (all in `kd.metrics.get`), functions of `(y_true,
            y_pred)` such as scikit-learn's, `keras.metrics.Metric`s, or
            `kd.metrics.Metric`s. Defaults to `None`.
        train: `Split`, which gives label names, and the group shares for
            `train_weighted_accuracy` if a split has the same groups. Texts of
            a split that also occur in it are counted. Defaults to `None`.
        label_names: sequence of strings, the names of the model's outputs in
            their order. Defaults to `None`.
        from_logits: bool or None. Whether outputs are logits, which
            decides the threshold of single outputs and of several labels (0,
            or 0.5 for probabilities). Defaults to `None`: as the model's last
            activation and compiled loss say.
        batch_size: int, passed to `model.predict`. Defaults to `None`.
        sum_probabilities: bool. If several classes of the model count as
            one class, whether their probabilities are summed before the
            arg-max. Defaults to `False`: the arg-max is mapped to that class.
        min_group_size: int. Groups of fewer rows are reported and cannot
            be the worst; a warning names them. If all are smaller, all
            count. Defaults to `10`.
        bootstrap: int, the number of resamples of the rows for the
            intervals of the weighted F1 and of `metrics`; 0 for no intervals
            at all. Defaults to `1000`.
        confidence: float between 0 and 1, that of the intervals; see
            `evaluation/intervals.py` for their definition. Defaults to `0.95`.
        seed: int, of the resampling. Defaults to `0`.
        verbose: int, passed to `model.predict`. Defaults to `0`.

    Returns:
        `Scores`. Rows with several labels (multi-hot `y`) are right if all
        labels are. One-hot `y` is read the same way for a model with a binary
        loss, or with sigmoids and no loss, whose labels do not exclude each
        other; else the largest output counts. Scores of a
        `LabelWordClassifier` with several labels a row are read by its
        `threshold`. In addition, `argmax_weighted_f1` is the F1 of the label
        with the highest score alone.

    Raises:
        ValueError: If labels and outputs do not fit, predictions are NaN, or
            it is unknown whether single outputs are logits; if a metric does
            not fit the labels, or the model needs a threshold and has none.
        TypeError: If an argument has the wrong type.

    Example:

    ```python
    scores = keras_debias.evaluate(model, {"test": test, "hans": hans})
    print(scores)
    scores["hans"].worst_group_accuracy
    scores = keras_debias.evaluate(model, test, metrics=["auroc", "ece"])
    scores["test"].metrics["auroc"].worst
    ```
    """
    splits = check_splits(splits)
    if train is not None and not isinstance(train, Split):
        raise TypeError(
            f"Expected `train` to be a `Split` or None. Received: {type(train)}"
        )
    if isinstance(model, type) or not callable(getattr(model, "predict", None)):
        raise TypeError(
            "Expected `model` to have a method `predict(x, batch_size=, "
            f"verbose=)`. Received: {type(model).__name__}"
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
    metrics = named_metrics(metrics)
    names: Any = model_label_names(model, label_names, train)
    own = getattr(model, "label_names", None)
    if label_names is not None and own is not None and names != tuple(own):
        if sorted(names) == sorted(own):
            warnings.warn(
                "`label_names` names the model's outputs in another order "
                f"than the model itself. Received: label_names={names}, "
                f"model.label_names={tuple(own)}. `label_names` counts.",
                stacklevel=2,
            )
    if names is None:
        _check_one_order(splits)
    warn_of_groups(splits, settings.min_group_size)
    for name, split in splits.items():
        if (
            names is not None
            and split.label_names is None
            and kind_of(split) == "class"
        ):
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
        metrics=metrics,
    )


def check_scoring(
    model,
    splits: Mapping[str, Split],
    *,
    train: Split | None = None,
    label_names: Sequence[str] | None = None,
    from_logits: bool | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> None:
    """Raises where `score_splits` would, before anything is predicted."""
    names = model_label_names(model, label_names, train)
    logits = model_outputs.are_logits(model, from_logits)
    for name, split in splits.items():
        wanted = _wanted(model, split, dict(metrics or {}))
        check_split(model, name, split, names, logits, wanted)


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
    metrics: Mapping[str, Metric] | None = None,
) -> Scores:
    """`evaluate` of checked arguments, without a warning."""
    metrics = dict(metrics or {})
    check_scoring(
        model,
        splits,
        train=train,
        label_names=label_names,
        from_logits=from_logits,
        metrics=metrics,
    )
    names: Any = model_label_names(model, label_names, train)
    logits = model_outputs.are_logits(model, from_logits)
    scores, frames = [], []
    for name, split in splits.items():
        wanted = _wanted(model, split, metrics)
        if kind_of(split) == "generation":
            data = read_answers(model, split, batch_size)
        else:
            predicted = model_outputs.predict(
                model, split.x, batch_size, verbose
            )
            data = read_outputs(
                model,
                name,
                split,
                model_outputs.check_outputs(predicted, len(split), name),
                names,
                sum_probabilities,
                logits,
                any(m.on == "probabilities" for m in wanted.values()),
            )
        frame = _frame(name, split, data)
        shares = None
        if train is not None and train.groups is not None:
            shares = train.groups.shares()
        groups = () if split.groups is None else split.groups.names
        members = None if split.groups is None else split.groups.members()
        if data.kind in ("regression", "generation"):
            score = score_metrics(
                frame, groups, members, settings, data, wanted
            )
        else:
            score = score_frame(
                frame,
                groups,
                members,
                settings,
                data=data,
                metrics=wanted,
                shares=shares,
            )
        notes = list(score.notes)
        if names is None and split.label_names is not None:
            notes.append(
                "The model has no label names; its outputs are read in the "
                f"order {', '.join(data.names)}."
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
            "Expected `splits` to be a `Split` or a dict from name to `Split`. "
            f"Received: {type(splits).__name__}"
        )
    if not splits:
        raise ValueError(
            "Expected `splits` to hold at least one split. Received: splits={}"
        )
    for name, split in splits.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                "Expected the names in `splits` to be non-empty strings. "
                f"Received: {name!r}"
            )
        if not isinstance(split, Split):
            raise TypeError(
                f"Expected `splits[{name!r}]` to be a `Split`. Received: "
                f"{type(split).__name__}. Use `keras_debias.data.Split(x, y)`."
            )
        if is_generation(split):
            continue
        if split.y is None:
            raise ValueError(
                f"`splits[{name!r}]` has no labels. Received: y=None"
            )
        if split.y.ndim > 2:
            raise ValueError(
                f"Expected `splits[{name!r}]` to have one label, or one "
                f"multi-hot vector, a row. Received: y of shape {split.y.shape}"
            )
        weight = split.sample_weight
        if weight is not None and (weight.ndim != 1 or not weight.sum()):
            raise ValueError(
                f"Expected `splits[{name!r}]` to have one weight a row, not "
                f"all zero. Received: sample_weight of shape {weight.shape} "
                f"that sums to {weight.sum():g}"
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


def _check_one_order(splits) -> None:
    """Raises if splits name the same classes in different orders.

    Nothing else says which output is which.
    """
    orders = {}
    for name, split in splits.items():
        if split.label_names is None or kind_of(split) != "class":
            continue
        key = tuple(sorted(split.label_names))
        other, order = orders.setdefault(key, (name, split.label_names))
        if order != split.label_names:
            raise ValueError(
                "Expected one order of the model's outputs. Received: the "
                f"labels {order} in the split {other!r} and "
                f"{split.label_names} in {name!r}, and a model that does not "
                "name its outputs. Name them in their order with "
                "`label_names=`, or set `model.label_names`."
            )


def model_label_names(model, label_names, train) -> tuple[str, ...] | None:
    """Returns the names of the model's outputs, None if unknown."""
    if label_names is None:
        label_names = getattr(model, "label_names", None)
    if label_names is None and train is not None:
        label_names = train.label_names
    return None if label_names is None else check_label_names(label_names)


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


def _frame(name, split, data) -> pd.DataFrame:
    if data.kind in ("regression", "generation"):
        labels, predictions = data.y_true, data.y_pred
    else:
        labels = _spelled(data.y_true, data.names)
        predictions = _spelled(data.y_pred, data.names)
    columns = {
        "split": name,
        "row": np.arange(len(split)),
        "label": labels,
        "prediction": predictions,
        "group": None if split.groups is None else split.groups.row_names(),
    }
    if split.sample_weight is not None and split.sample_weight.ndim == 1:
        columns["weight"] = split.sample_weight.astype("float64")
    return pd.DataFrame(columns)


def _wanted(model, split, metrics) -> dict[str, Metric]:
    """The requested metrics of a split, or the defaults of its task."""
    kind = task_of(model, split)
    if kind == "regression" and not metrics:
        return named_metrics(REGRESSION)
    if kind == "generation" and not metrics:
        return named_metrics(GENERATION)
    if kind == "multi_label" and model_outputs.is_unscaled(model):
        return {**named_metrics(ARGMAX), **metrics}
    return metrics
