"""What `Split` demands of inputs, labels and weights."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from keras_debias.data.labels import check_label_names
from keras_debias.data.labels import encode_labels


def is_text(values) -> bool:
    """Returns whether `values` is an array of Python strings."""
    return isinstance(values, np.ndarray) and values.dtype == object


def num_rows(x) -> int:
    """Returns the number of rows of checked inputs."""
    if isinstance(x, tuple):
        return len(x[0])
    if isinstance(x, dict):
        return len(next(iter(x.values())))
    return len(x)


def take_rows(x, indices: np.ndarray):
    """Returns the rows `indices` of checked inputs."""
    if isinstance(x, tuple):
        return tuple(part[indices] for part in x)
    if isinstance(x, dict):
        return {name: part[indices] for name, part in x.items()}
    return x[indices]


def describe_inputs(x) -> str:
    """Returns a few words on checked inputs, for `repr`."""
    if isinstance(x, tuple):
        return f"{len(x)} texts a row" if is_text(x[0]) else f"{len(x)} arrays"
    if isinstance(x, dict):
        return f"{{{', '.join(map(str, x))}}}"
    return "texts" if is_text(x) else str(x.shape[1:])


def class_labels(split, what: str) -> np.ndarray:
    """Returns the labels of a split if they are one class a row, or raises."""
    y = split.y
    if y is None or y.ndim != 1 or y.dtype.kind != "i":
        found = "None" if y is None else f"shape {y.shape}, dtype {y.dtype}"
        raise ValueError(
            f"{what} needs one integer label a row. Received: y of {found}. "
            "Use groups of your own instead: `split.with_groups(...)`."
        )
    return y


def _texts(values, where: str) -> np.ndarray:
    wrong = next((i for i, v in enumerate(values) if type(v) is not str), None)
    if wrong is not None and not isinstance(values[wrong], str):
        raise TypeError(
            f"{where} must hold strings only. Received: {values[wrong]!r} (of "
            f"type {type(values[wrong]).__name__}) in row {wrong}. Drop or "
            "fill such rows."
        )
    result = np.empty(len(values), dtype=object)
    result[:] = [str(v) for v in values]
    return result


def _array(values, where: str) -> np.ndarray:
    """Returns `values` as an array of numbers or of Python strings."""
    if isinstance(values, (str, bytes)) or np.isscalar(values):
        raise TypeError(
            f"{where} must be an array or a list with one element a row. "
            f"Received: {type(values).__name__}. Pass a list, also for a "
            "single row."
        )
    if isinstance(values, pd.Series):
        values = values.to_numpy()
    if isinstance(values, (list, tuple)) and any(
        isinstance(v, str) for v in values
    ):
        return _texts(values, where)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{where} must have rows of one shape. Received rows of different "
            "shapes; pad them first."
        ) from error
    if array.ndim == 0:
        raise TypeError(
            f"{where} must be an array with one element a row. Received: "
            f"{type(values).__name__}"
        )
    if array.dtype.kind in "UOST":
        if array.ndim != 1:
            raise TypeError(
                f"{where} must be a 1-D list of strings or a numeric array. "
                f"Received: shape {array.shape}, dtype {array.dtype}. Pass "
                "pairs of texts as a tuple of two lists of strings."
            )
        return _texts(array.tolist(), where)
    if array.dtype.kind not in "biuf" and "bfloat16" not in str(array.dtype):
        raise TypeError(
            f"{where} must hold strings or numbers. Received: dtype "
            f"{array.dtype}"
        )
    return array


def check_inputs(x):
    """Returns checked inputs and their number of rows."""
    if isinstance(x, tuple):
        if not x or any(isinstance(part, str) for part in x):
            raise TypeError(
                "`x` as a tuple must hold one list of strings a text: "
                "`(premises, hypotheses)`. Received: a tuple of "
                f"{'strings' if x else 'nothing'}. Pass single texts as a "
                "list."
            )
        x = tuple(_array(part, f"`x[{i}]`") for i, part in enumerate(x))
        sizes = {f"x[{i}]": len(part) for i, part in enumerate(x)}
    elif isinstance(x, Mapping):
        if not x:
            raise ValueError(
                "`x` as a dict must hold at least one array. Received: x={}"
            )
        x = {name: _array(part, f"`x[{name!r}]`") for name, part in x.items()}
        sizes = {f"x[{name!r}]": len(part) for name, part in x.items()}
    elif x is None:
        raise TypeError(
            "`x` must be an array, a list of strings, a tuple of lists of "
            "strings or a dict of arrays. Received: x=None"
        )
    else:
        x = _array(x, "`x`")
        sizes = {"x": len(x)}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            "All parts of `x` must have the same number of rows. Received: "
            + ", ".join(f"{name}: {size}" for name, size in sizes.items())
        )
    n = next(iter(sizes.values()))
    if n == 0:
        raise ValueError(
            "A split must have at least one row. Received: `x` with 0 rows. "
            "Check the filter or the file that it comes from."
        )
    return x, n


def check_labels(y, label_names, n: int):
    """Returns checked labels and label names."""
    if label_names is not None:
        label_names = check_label_names(label_names)
    if y is None:
        return None, label_names
    values = y.to_numpy() if isinstance(y, pd.Series) else y
    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError(
            "`y` must have rows of one shape. Received rows of different "
            "shapes. For several labels a row pass a multi-hot array."
        ) from error
    if array.ndim == 0 or len(array) != n:
        raise ValueError(
            f"`y` must have one row a row of `x` ({n}). Received: y of shape "
            f"{array.shape}"
        )
    if array.dtype.kind in "UOT":
        if array.ndim != 1:
            raise TypeError(
                "`y` must be strings of shape `(n,)` or numbers. Received: "
                f"shape {array.shape}, dtype {array.dtype}"
            )
        return encode_labels(np.asarray(list(values), object), label_names)
    if array.dtype == bool:
        array = array.astype("int32")
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"`y` must hold numbers or strings. Received: dtype {array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = np.isfinite(array).reshape(n, -1).all(axis=1)
        raise ValueError(
            "`y` must be finite. Received: NaN or infinity in "
            f"{int((~finite).sum())} of {n} rows. Drop those rows."
        )
    if label_names is not None:
        return _check_named(array, label_names), label_names
    if array.dtype.kind in "iu" and array.ndim == 1:
        array = array.astype("int32")
    return array, None


def _check_named(y: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == len(names):
        return y
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            "With `label_names`, `y` must have shape `(n,)`, or `(n, "
            f"{len(names)})` for one column a name. Received: y of shape "
            f"{y.shape}, label_names={names}"
        )
    if y.dtype.kind == "f":
        raise TypeError(
            "With `label_names`, `y` must hold integers or strings. "
            f"Received: y of dtype {y.dtype}. Use `y.astype('int32')` for "
            "classes, or leave `label_names` out for regression."
        )
    if y.min() < 0 or y.max() >= len(names):
        outside = int(((y < 0) | (y >= len(names))).sum())
        raise ValueError(
            f"`y` must be indices into the {len(names)} `label_names`. "
            f"Received: labels from {y.min()} to {y.max()}, {outside} of "
            f"{len(y)} outside, label_names={names}. Drop rows without a gold "
            "label (-1) first."
        )
    return y.astype("int32")


def check_sample_weight(sample_weight, n: int, y=None) -> np.ndarray | None:
    """Returns checked float32 sample weights, of rows or of tokens."""
    if sample_weight is None:
        return None
    weight = np.array(sample_weight)
    of_tokens = y is not None and y.ndim > 1 and weight.shape == y.shape
    if weight.shape != (n,) and not of_tokens:
        raise ValueError(
            f"`sample_weight` must have one value a row of `x` ({n}), or the "
            "shape of labels of tokens. "
            f"Received: shape {weight.shape}"
        )
    if weight.dtype.kind not in "biuf":
        raise TypeError(
            f"`sample_weight` must hold numbers. Received: dtype {weight.dtype}"
        )
    weight = weight.astype("float32")
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any():
        raise ValueError(
            "`sample_weight` must be finite and not negative. Received: "
            f"{int(wrong.sum())} of {n} values that are NaN, infinite or "
            "negative."
        )
    return weight
