"""From outputs of a model to labels and predictions that can be compared."""

import numpy as np

from keras_debias.data.split import Split
from keras_debias.evaluation import outputs as model_outputs
from keras_debias.evaluation.generation import check_generation
from keras_debias.evaluation.generation import is_generation
from keras_debias.evaluation.label_alignment import label_space
from keras_debias.evaluation.label_report import log_softmax
from keras_debias.metrics.metric_data import MetricData


def kind_of(split: Split) -> str:
    """Returns `"class"`, `"multi_label"`, `"regression"` or `"generation"`."""
    if is_generation(split):
        return "generation"
    y = split.y
    if y.dtype.kind == "f" and (y.ndim == 1 or y.shape[1] == 1):
        return "regression"
    several = y.ndim == 2 and y.shape[1] > 1 and not _is_one_hot(y)
    return "multi_label" if several else "class"


def task_of(model, split: Split) -> str:
    """The kind of a split as a model sees it.

    Rows of a model of several labels may happen to have one label each.
    """
    kind = kind_of(split)
    if kind == "class" and split.y.ndim == 2 and split.y.shape[1] > 1:
        if model_outputs.is_multi_label(model):
            return "multi_label"
    return kind


def check_task(model, name: str, split: Split) -> None:
    """Raises where a split and a model's loss are of different tasks."""
    kind = task_of(model, split)
    if kind == "generation":
        check_generation(model, name, split)
    if kind == "regression" and model_outputs.is_cross_entropy(model):
        raise ValueError(
            f"Expected class labels in the split {name!r}: the model's loss "
            f"is a cross entropy. Received: y of dtype {split.y.dtype}, which "
            "is read as numbers of a regression. Cast whole numbers with "
            "`y.astype('int32')`."
        )
    if kind == "multi_label" and model_outputs.is_unscaled(model):
        if model_outputs.label_threshold(model) is None:
            raise ValueError(
                "Expected a threshold to read scores of label words by: "
                f"rows of the split {name!r} may have several labels, and "
                "the scores of a language model have no natural zero. "
                "Received: threshold=None. Call "
                "`classifier.tune_threshold(dev)` on data held out for it "
                "first; the threshold is kept with the model."
            )


def read_outputs(
    model,
    name: str,
    split: Split,
    outputs: np.ndarray,
    names: tuple[str, ...] | None,
    sum_probabilities: bool,
    logits: bool | None,
    with_probabilities: bool,
) -> MetricData:
    """Returns the labels and predictions of one split.

    Args:
        model: What predicted.
        name: string, the name of the split.
        split: `Split`.
        outputs: float array of shape `(n, classes)` or `(n,)`.
        names: tuple of strings, those of the model's outputs, or None.
        sum_probabilities: bool, see `evaluate`.
        logits: bool or None, whether outputs are logits.
        with_probabilities: bool, whether some metric needs them.
    """
    kind = task_of(model, split)
    if kind == "regression":
        return _regression(name, split, outputs)
    if kind == "multi_label":
        return _multi_label(
            model, split, outputs, names, logits, with_probabilities
        )
    return _single_label(
        name,
        split,
        outputs,
        names,
        sum_probabilities,
        logits,
        with_probabilities,
    )


def _is_one_hot(y: np.ndarray) -> bool:
    return y.shape[1] > 1 and bool(
        (((y == 0) | (y == 1)).all()) and (y.sum(axis=1) == 1).all()
    )


def _regression(name, split, outputs) -> MetricData:
    if outputs.ndim != 1:
        raise ValueError(
            "Expected one output for a regression. Received: outputs of shape "
            f"{outputs.shape} for the split {name!r}, whose labels are "
            "numbers. For classes cast the labels with `y.astype('int32')`."
        )
    infinite = int((~np.isfinite(outputs)).sum())
    if infinite:
        raise ValueError(
            f"Expected finite predictions for the split {name!r}. Received: "
            f"{infinite} of {len(outputs)} that are infinite"
        )
    y = split.y.reshape(-1).astype("float64")
    return MetricData("regression", y, outputs)


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


def _single_label(
    name, split, outputs, names, sum_probabilities, logits, with_probabilities
) -> MetricData:
    names = _output_names(name, split, outputs, names)
    y = split.y
    if y.ndim == 2:
        y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    y = y.astype("int64")
    chances = None
    if split.label_names is None:
        # labels without names are indices of the model's outputs
        if y.min() < 0 or y.max() >= len(names):
            raise ValueError(
                f"Expected the labels of the split {name!r} to be between 0 "
                f"and {len(names) - 1}, the classes of the model. Received: "
                f"labels from {y.min()} to {y.max()}. Where they are names, "
                "say so with the `label_names` of the split, in the order of "
                "the outputs."
            )
        if with_probabilities:
            chances = model_outputs.probabilities(outputs, logits)
        predictions = model_outputs.classes(outputs, logits)
        return MetricData("class", y, predictions, chances, names)
    space = label_space(names, split.label_names)
    if with_probabilities or (sum_probabilities and space.merges_model_classes):
        chances = np.zeros((len(y), len(space.names)))
        columns = model_outputs.probabilities(outputs, logits)
        for column, target in enumerate(space.from_model):
            chances[:, target] += columns[:, column]
    if chances is not None and space.merges_model_classes and sum_probabilities:
        predictions = chances.argmax(axis=1)
    else:
        predictions = space.from_model[model_outputs.classes(outputs, logits)]
    return MetricData(
        "class", space.from_split[y], predictions, chances, space.names
    )


def _multi_label(
    model, split, outputs, names, logits, with_probabilities
) -> MetricData:
    if split.y.shape != outputs.shape:
        raise ValueError(
            "Multi-hot labels need one output a label. Received: labels of "
            f"shape {split.y.shape}, outputs of shape {outputs.shape}"
        )
    if split.y.min() < 0 or split.y.max() > 1:
        raise ValueError(
            "Expected one number a row for a regression, or zeros and ones "
            "for several labels. Received: labels of shape "
            f"{split.y.shape} from {split.y.min():g} to {split.y.max():g}"
        )
    own = split.label_names
    if own is not None and names is not None:
        names = _output_names("", split, outputs, names)
        order = label_space(names, own).from_split
        outputs = outputs[:, order]
    names = own or names or tuple(map(str, range(split.y.shape[1])))
    if model_outputs.is_unscaled(model):
        # Chances among the labels, as the threshold was tuned on them.
        among = log_softmax(outputs)
        predictions = among > model_outputs.label_threshold(model)
        chances = np.exp(among)
    else:
        predictions = model_outputs.above_threshold(outputs, logits)
        chances = None
        if with_probabilities:
            chances = model_outputs.sigmoids(outputs, logits)
    return MetricData(
        "multi_label", split.y > 0.5, predictions, chances, tuple(names)
    )
