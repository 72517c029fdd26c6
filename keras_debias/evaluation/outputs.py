"""From what `model.predict` returns to classes."""

import numpy as np


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
        outputs = outputs.astype("float32")  # bfloat16
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


def above_threshold(outputs: np.ndarray) -> np.ndarray:
    """Returns where outputs say yes: 0.5 for probabilities, 0 for logits."""
    is_probability = outputs.min() >= 0 and outputs.max() <= 1
    return outputs > (0.5 if is_probability else 0.0)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Returns class probabilities `(n, classes)` of logits or of such."""
    if outputs.ndim == 1:
        if outputs.min() < 0 or outputs.max() > 1:
            outputs = 0.5 * (1 + np.tanh(outputs / 2))  # sigmoid, no overflow
        return np.stack([1 - outputs, outputs], axis=1)
    sums = outputs.sum(axis=1)
    if outputs.min() >= 0 and np.allclose(sums, 1, atol=1e-2):
        return outputs
    exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def classes(outputs: np.ndarray) -> np.ndarray:
    """Returns the class of each row."""
    if outputs.ndim == 1:
        return above_threshold(outputs).astype("int64")
    return outputs.argmax(axis=1)
