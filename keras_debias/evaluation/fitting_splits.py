"""Whether a model can be scored on a split, before anything is predicted."""

import warnings

import keras
import numpy as np

from keras_debias.data.image_files import ImageFiles
from keras_debias.data.split import Split
from keras_debias.evaluation import outputs as model_outputs
from keras_debias.evaluation.predicted import check_task
from keras_debias.evaluation.predicted import kind_of
from keras_debias.evaluation.predicted import read_outputs
from keras_debias.metrics.metric_data import MetricData
from keras_debias.utils.networks import network_of

# Number of rows to check, besides those of the lowest and highest label.
ROWS = 100


def check_split(
    model,
    name: str,
    split: Split,
    names: tuple[str, ...] | None,
    logits: bool | None,
    metrics,
) -> None:
    """Raises if shapes show that a split cannot be scored.

    Args:
        model: What will predict.
        name: string, the name of the split.
        split: `Split`.
        names: tuple of strings, those of the model's outputs, or None.
        logits: bool or None, whether outputs are logits.
        metrics: dict from name to `Metric`, those of this split.
    """
    check_task(model, name, split)
    if kind_of(split) == "generation":
        texts = np.empty(0, object)
        data = MetricData("generation", texts, texts, np.zeros((0, 2)))
    else:
        check_inputs(model, name, split)
        count = _outputs(model)
        if count is None:
            return
        part = split.take(_telling_rows(split))
        # Valid both as probabilities and as logits.
        outputs = np.full((len(part), count), 1 / max(count, 2))
        outputs = model_outputs.check_outputs(outputs, len(part), name)
        on_scores = any(m.on == "probabilities" for m in metrics.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scores themselves warn
            data = read_outputs(
                model, name, part, outputs, names, False, logits, on_scores
            )
    for metric in metrics.values():
        metric.check(data)


def check_inputs(model, name: str, split: Split) -> None:
    """Raises if the inputs of a split do not fit the network."""
    network, x = network_of(model), split.x
    if not isinstance(x, (np.ndarray, ImageFiles)) or x.dtype.kind not in "iuf":
        return
    if getattr(network, "preprocessor", None) is not None:
        return
    wanted = _shape(network, "input_shape")
    if wanted is None or len(wanted) != x.ndim:
        return  # Keras adds and drops axes of its own
    wrong = [
        size not in (None, given)
        for size, given in zip(wanted[1:], x.shape[1:], strict=True)
    ]
    if any(wrong):
        raise ValueError(
            f"Expected inputs of shape {wanted} in the split {name!r}, as the "
            f"network takes. Received: x of shape {x.shape}"
        )


def _outputs(model) -> int | None:
    """The number of outputs for a row, or `None` if unknown."""
    shape = _shape(network_of(model), "output_shape")
    return shape[1] if shape is not None and len(shape) == 2 else None


def _shape(network, attribute) -> tuple | None:
    if not isinstance(network, keras.Model):
        return None
    try:
        shape = getattr(network, attribute)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return None  # a subclass, or a network that is not built
    if not isinstance(shape, tuple) or not shape:
        return None
    known = all(size is None or isinstance(size, int) for size in shape)
    return shape if known and shape[-1] is not None else None


def _telling_rows(split) -> np.ndarray:
    rows = np.arange(min(ROWS, len(split)))
    if split.y.ndim == 1:
        rows = np.union1d(rows, [split.y.argmin(), split.y.argmax()])
    return rows
