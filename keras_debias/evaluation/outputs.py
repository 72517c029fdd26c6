"""From the outputs of `model.predict` to classes."""

import warnings

import keras
import numpy as np

from keras_debias.data.arguments import check_flag
from keras_debias.data.image_files import ImageFiles
from keras_debias.utils.networks import network_of
from keras_debias.utils.progress import Progress

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")
LOGITS = ("linear", "log_softmax", "log_sigmoid")
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
CROSS_ENTROPY = (
    *BINARY,
    *("categorical_crossentropy", "sparse_categorical_crossentropy"),
    *("categorical_focal_crossentropy", "kl_divergence"),
)
DISTANCE = (
    *("mean_squared_error", "mse", "mean_absolute_error", "mae"),
    *("huber", "log_cosh", "poisson"),
)
MARGIN = ("hinge", "squared_hinge", "categorical_hinge")
ROUNDING = 1e-3
IMAGES_AT_ONCE = 1024


def predict(model, x, batch_size: int | None, verbose: int):
    """The result of `model.predict` for the inputs of a split.

    Images in files are read a few batches at a time, for any model.
    """
    if not isinstance(x, ImageFiles):
        return model.predict(x, batch_size=batch_size, verbose=verbose)
    found = []
    progress = Progress("Predicting images", len(x), "image")
    for start in range(0, len(x), IMAGES_AT_ONCE):
        part = x[start : start + IMAGES_AT_ONCE]
        found.append(model.predict(part, batch_size=batch_size, verbose=0))
        if verbose:
            progress.add(len(part))
    if any(isinstance(part, (dict, list, tuple)) for part in found):
        return found[0]  # `check_outputs` says what is wrong with it
    return np.concatenate([np.asarray(part) for part in found])


def check_outputs(outputs, n: int, split: str) -> np.ndarray:
    """Returns the outputs as a float array `(n, classes)` or `(n,)`."""
    if isinstance(outputs, (dict, list, tuple)):
        raise TypeError(
            "`evaluate` needs a model with one output. Received: "
            f"{type(outputs).__name__} of {len(outputs)} outputs for the "
            f"split {split!r}. Wrap the output to be scored in a "
            "`keras.Model` of its own."
        )
    outputs = np.asarray(outputs)
    if outputs.dtype.kind not in "biuf":
        try:
            outputs = outputs.astype("float32")  # bfloat16
        except (TypeError, ValueError) as error:
            raise TypeError(
                "`evaluate` needs a model that returns class scores. "
                f"Received: outputs of dtype {outputs.dtype} for the split "
                f"{split!r}. For names of classes give each a column, 1 for "
                "the class that is answered and 0 for others."
            ) from error
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim not in (1, 2):
        raise ValueError(
            "`evaluate` needs one row of class scores a sample: outputs of "
            "shape `(n, classes)`, `(n, 1)` or `(n,)`. Received: shape "
            f"{outputs.shape} for the split {split!r}. Outputs per token, as "
            "of a language model, must be reduced to class scores first."
        )
    if len(outputs) != n:
        raise ValueError(
            f"`model.predict` returned {len(outputs)} rows for the {n} rows "
            f"of the split {split!r}."
        )
    outputs = outputs.astype("float64")
    wrong = int(np.isnan(outputs).reshape(n, -1).any(axis=1).sum())
    if wrong:
        raise ValueError(
            f"The predictions for the split {split!r} are NaN in {wrong} of "
            f"{n} rows. The model has diverged, or its inputs hold NaN."
        )
    return outputs


def num_classes(outputs: np.ndarray) -> int:
    """Returns the number of classes; a single output decides between 2."""
    return 2 if outputs.ndim == 1 else outputs.shape[1]


def are_logits(model, from_logits: bool | None = None) -> bool | None:
    """Returns whether a model's outputs are logits; None if unknown.

    This is read from the model, never from the outputs. The first of these
    decides: `from_logits`, a `from_logits` of the model, its last activation
    (softmax or sigmoid), its compiled loss, a linear last activation.

    Args:
        model: Anything with `predict`.
        from_logits: bool or None, what the caller says.
    """
    if from_logits is not None:
        return check_flag("from_logits", from_logits)
    own = getattr(model, "from_logits", None)
    if isinstance(own, bool):
        return own
    activation = last_activation(model)
    if activation in PROBABILITIES:
        return False
    of_loss = loss_from_logits(model)
    if of_loss is not None:
        return of_loss
    return True if activation in LOGITS else None


def warn_of_loss(model) -> None:
    """Warns if the loss does not fit the last activation."""
    activation, of_loss = last_activation(model), loss_from_logits(model)
    if activation in PROBABILITIES and of_loss:
        warnings.warn(
            f"The model ends in the activation {activation!r}, and its loss "
            "takes outputs for logits (`from_logits=True`): a second "
            f"{activation} flattens what it learns. Set `from_logits=False`, "
            "or leave out the activation.",
            stacklevel=3,
        )
    elif activation in LOGITS and of_loss is False and _is_entropy(model):
        warnings.warn(
            f"The model ends in the activation {activation!r}, and its loss "
            "takes outputs for probabilities (`from_logits=False`, as a loss "
            "named by a string does). Pass the loss with `from_logits=True`, "
            "or end in softmax or sigmoid.",
            stacklevel=3,
        )


def last_activation(model) -> str | None:
    """Returns the name of the last layer's activation, if there is one."""
    network = network_of(model)
    if not isinstance(network, keras.Model):
        return None
    layers = getattr(network, "layers", None)
    outputs = getattr(network, "outputs", None)
    # A subclassed model does not list its layers in call order.
    if not layers or not outputs or len(outputs) != 1:
        return None
    last = layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    if isinstance(last, keras.Model):
        return last_activation(last)
    return getattr(getattr(last, "activation", None), "__name__", None)


def _loss_of(model):
    loss = getattr(model, "loss", None)
    if loss is None:
        loss = getattr(network_of(model), "loss", None)
    if isinstance(loss, dict):
        loss = list(loss.values())
    if isinstance(loss, (list, tuple)):
        loss = loss[0] if len(loss) == 1 else None
    while isinstance(getattr(loss, "loss", None), keras.losses.Loss | str):
        loss = loss.loss  # a loss around a loss
    return loss


def _loss_name(loss) -> str | None:
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
    if isinstance(loss, keras.losses.Loss):
        return loss.name
    return getattr(loss, "__name__", None)


def _is_entropy(model) -> bool:
    return _loss_name(_loss_of(model)) in CROSS_ENTROPY


def loss_from_logits(model) -> bool | None:
    """Returns whether the compiled loss takes logits, None if unknown."""
    loss = _loss_of(model)
    if isinstance(loss, keras.losses.Loss):
        said = loss.get_config().get("from_logits")
        if isinstance(said, bool):
            return said
    name = _loss_name(loss)
    if name in MARGIN:
        return True
    return False if name in (*CROSS_ENTROPY, *DISTANCE) else None


def is_cross_entropy(model) -> bool:
    """Whether the model is compiled with a cross entropy."""
    return _is_entropy(model)


def is_multi_label(model) -> bool:
    """Whether each output of a model is the score of a label by itself."""
    if threshold_tuner(model) is not None:
        return True
    loss = _loss_of(model)
    activation = last_activation(model)
    if loss is None:
        return activation == "sigmoid"
    # A softmax makes the labels exclude each other, whatever the loss.
    return _loss_name(loss) in BINARY and activation != "softmax"


def is_unscaled(model) -> bool:
    """Whether a model's outputs are scores of label words, without a zero."""
    return getattr(network_of(model), "scores_label_words", False) is True


def label_threshold(model) -> float | None:
    """The threshold that a model of label words keeps, None if none."""
    return getattr(network_of(model), "threshold", None)


def threshold_tuner(model):
    """The model's method `tune_threshold`, None if it needs no threshold."""
    network = network_of(model)
    if not is_unscaled(model) or not getattr(network, "multi_label", False):
        return None
    return network.tune_threshold


def sigmoids(outputs: np.ndarray, from_logits: bool | None) -> np.ndarray:
    """Returns the probability of each label by itself, `(n, labels)`.

    Raises:
        ValueError: In the same cases as `probabilities`.
    """
    columns = outputs.shape[1]
    each = [probabilities(outputs[:, i], from_logits) for i in range(columns)]
    return np.stack([pair[:, 1] for pair in each], axis=1)


def _check_known(from_logits: bool | None) -> None:
    if from_logits is None:
        raise ValueError(
            "Expected to know whether outputs are logits or probabilities, "
            "which decides the threshold. Received: a model without a "
            "compiled loss or last activation that says so. Pass "
            "`from_logits=True` or `from_logits=False`."
        )


def above_threshold(
    outputs: np.ndarray, from_logits: bool | None
) -> np.ndarray:
    """Returns where outputs say yes: 0.5 for probabilities, 0 for logits."""
    _check_known(from_logits)
    return outputs > (0.0 if from_logits else 0.5)


def probabilities(outputs: np.ndarray, from_logits: bool | None) -> np.ndarray:
    """Returns class probabilities `(n, classes)`.

    Raises:
        ValueError: If it is unknown whether `outputs` are logits, or they
            count as probabilities and leave [0, 1].
    """
    _check_known(from_logits)
    if not from_logits:
        low, high = outputs.min(initial=0), outputs.max(initial=1)
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ValueError(
                "The model's loss, or `from_logits=False`, says that its "
                f"outputs are probabilities. Received: outputs from {low:.3g} "
                f"to {high:.3g}. Pass `from_logits=True` if they are logits."
            )
    if outputs.ndim == 1:
        if from_logits:
            outputs = 0.5 * (1 + np.tanh(outputs / 2))  # sigmoid, no overflow
        return np.stack([1 - outputs, outputs], axis=1)
    if not from_logits:
        return outputs / np.maximum(outputs.sum(axis=1, keepdims=True), 1e-12)
    exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def classes(outputs: np.ndarray, from_logits: bool | None) -> np.ndarray:
    """Returns the class of each row."""
    if outputs.ndim == 1:
        return above_threshold(outputs, from_logits).astype("int64")
    return outputs.argmax(axis=1)
