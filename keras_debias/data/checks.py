"""Checks of the inputs, labels and weights of a `Split`."""

import re
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from keras_debias.data.arguments import check_floats
from keras_debias.data.image_files import ImageFiles
from keras_debias.data.labels import check_label_names
from keras_debias.data.labels import encode_labels
from keras_debias.data.labels import missing_labels
from keras_debias.data.labels import warn_of_missing_labels

IMAGE_FILE = re.compile(r"\S.*\.(png|jpe?g|gif|bmp|webp|tiff?)", re.IGNORECASE)


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
        return tuple(take_rows(part, indices) for part in x)
    if isinstance(x, dict):
        return {name: take_rows(part, indices) for name, part in x.items()}
    # Images in files stay there until they are needed.
    return x.take(indices) if isinstance(x, ImageFiles) else x[indices]


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
            f"Expected {where} to hold strings only. Received: "
            f"{values[wrong]!r} (of type {type(values[wrong]).__name__}) in "
            f"row {wrong}. Drop or fill such rows."
        )
    result = np.empty(len(values), dtype=object)
    result[:] = [str(v) for v in values]
    return result


def _array(values, where: str) -> np.ndarray:
    """Returns `values` as an array of numbers or of Python strings."""
    if isinstance(values, (str, bytes)) or np.isscalar(values):
        raise TypeError(
            f"Expected {where} to be an array or a list with one element a "
            f"row. Received: {type(values).__name__}. Pass a list, also for a "
            "single row."
        )
    if isinstance(values, ImageFiles):
        return values
    check_unmasked(values, where)
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
            f"Expected {where} to have rows of one shape. Received rows of "
            "different shapes; pad them first."
        ) from error
    if array.ndim == 0:
        raise TypeError(
            f"Expected {where} to be an array with one element a row. "
            f"Received: {type(values).__name__}"
        )
    if array.dtype.kind in "UOST":
        if array.ndim != 1:
            raise TypeError(
                f"Expected {where} to be a 1-D list of strings or a numeric "
                f"array. Received: shape {array.shape}, dtype {array.dtype}. "
                "Pass pairs of texts as a tuple of two lists of strings."
            )
        return _texts(array.tolist(), where)
    if array.dtype.kind not in "biuf" and "bfloat16" not in str(array.dtype):
        raise TypeError(
            f"Expected {where} to hold strings or numbers. Received: dtype "
            f"{array.dtype}"
        )
    return array


def check_unmasked(values, where: str) -> None:
    """Raises if values are masked, because NumPy would drop the mask."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"Expected {where} to have no masked values. Received: "
            f"{int(np.ma.getmaskarray(values).sum())} of them. Fill them, or "
            "drop their rows."
        )


def check_row_order(**parts) -> None:
    """Raises if parts of pandas have their rows in different orders.

    Args:
        **parts: The arguments, by name; those that are Series, or hold some,
            are compared.
    """
    first = None
    for name, part in parts.items():
        inside = part.values() if isinstance(part, Mapping) else (part,)
        for each in part if isinstance(part, tuple) else inside:
            if not isinstance(each, pd.Series) or not each.index.is_unique:
                continue
            if first is None:
                first = name, each.index
                continue
            other, index = first
            same = len(index) == len(each.index) and not each.index.equals(
                index
            )
            if same and index.difference(each.index, sort=False).empty:
                raise ValueError(
                    "Expected all parts to have their rows in one order. "
                    f"Received: {other!r} and {name!r} of the same index in "
                    "different orders; rows are taken by position. Align them, "
                    f"for instance with `{name}.loc[{other}.index]`, or pass "
                    "`.to_numpy()`."
                )


def check_inputs(x):
    """Returns checked inputs and their number of rows."""
    if isinstance(x, tuple):
        if not x or any(isinstance(part, str) for part in x):
            raise TypeError(
                "Expected `x` as a tuple to hold one list of strings a text: "
                "`(premises, hypotheses)`. Received: a tuple of "
                f"{'strings' if x else 'nothing'}. Pass single texts as a "
                "list."
            )
        x = tuple(_array(part, f"`x[{i}]`") for i, part in enumerate(x))
        sizes = {f"x[{i}]": len(part) for i, part in enumerate(x)}
        numbers = [i for i, part in enumerate(x) if not is_text(part)]
        flat = [i for i in numbers if x[i].ndim == 1]
        if flat and len(numbers) < len(x):
            raise TypeError(
                "Expected `x` as a tuple of texts to hold strings only. "
                f"Received: numbers in `x[{flat[0]}]`. Read the file with "
                "`dtype=str`, so that 007 does not become 7, or pass a dict "
                "of arrays."
            )
    elif isinstance(x, Mapping):
        if not x:
            raise ValueError(
                "Expected `x` as a dict to hold at least one array. Received: "
                "x={}"
            )
        x = {name: _array(part, f"`x[{name!r}]`") for name, part in x.items()}
        sizes = {f"x[{name!r}]": len(part) for name, part in x.items()}
    elif x is None:
        raise TypeError(
            "Expected `x` to be an array, a list of strings, a tuple of lists "
            "of strings or a dict of arrays. Received: x=None"
        )
    else:
        x = _array(x, "`x`")
        sizes = {"x": len(x)}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            "Expected all parts of `x` to have the same number of rows. "
            "Received: "
            + ", ".join(f"{name}: {size}" for name, size in sizes.items())
        )
    n = next(iter(sizes.values()))
    if n == 0:
        raise ValueError(
            "Expected a split to have at least one row. Received: `x` with 0 "
            "rows. Check the filter or the file that it comes from."
        )
    return x, n


def label_values(y) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Returns labels as an array, and the order of their names if any.

    A `pandas.Categorical` keeps the order of its categories; those that no
    row uses stay if it is ordered. Its values become strings.
    """
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        if y.ndim > 1:
            check_unmasked(y, "`y`")
        values = np.array(y.data, dtype=object)
        values[np.ma.getmaskarray(y)] = None
        return values, None
    if isinstance(y, pd.Series):
        y = y.array
    if isinstance(y, pd.Index):
        y = y.to_numpy()
    if isinstance(y, pd.Categorical):
        is_text = any(isinstance(c, str) for c in y.categories)
        if not (y.ordered or is_text):
            return np.asarray(y), None
        used = set(range(len(y.categories))) if y.ordered else set(y.codes)
        order = tuple(str(c) for i, c in enumerate(y.categories) if i in used)
        values = np.array(
            [None if pd.isna(v) else str(v) for v in y], dtype=object
        )
        absent = missing_labels(np.array(order, dtype=object))
        present = tuple(
            c for c, no in zip(order, absent, strict=True) if not no
        )
        return values, present or None
    if isinstance(y, pd.api.extensions.ExtensionArray):
        y = y.to_numpy()
    if isinstance(y, (list, tuple)) and any(
        v is None or v is pd.NA or isinstance(v, str) for v in y
    ):
        values = np.empty(len(y), dtype=object)
        values[:] = y
        return values, None
    try:
        return np.array(y), None
    except ValueError as error:
        raise ValueError(
            "Expected `y` to have rows of one shape. Received rows of "
            "different shapes. For several labels a row pass a multi-hot array."
        ) from error


def present_labels(
    values: np.ndarray, n: int, label_names, stacklevel: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Drops the labels that say "none", with a warning.

    Returns:
        Tuple of the labels that are there, and of the boolean mask of their
        rows, or None if it is all.
    """
    if values.ndim == 0 or len(values) != n:
        raise ValueError(
            f"Expected `y` to have one row a row of `x` ({n}). Received: y of "
            f"shape {values.shape}"
        )
    if values.ndim != 1:
        return values, None
    missing = missing_labels(values, label_names)
    warn_of_missing_labels(values, missing, "`y`", stacklevel + 1)
    present = None if not missing.any() else ~missing
    if present is not None:
        values = values[present]
        if values.dtype.kind == "f" and (values == np.round(values)).all():
            # Integers, which NaN had made floats.
            values = values.astype("int64")
    return _narrowed(values), present


def _narrowed(values: np.ndarray) -> np.ndarray:
    """Numbers that came as objects, as numbers."""
    if values.dtype != object:
        return values
    kinds = {type(v) for v in values}
    for kind in ((bool, np.bool_), (int, np.integer), (int, float, np.number)):
        if all(issubclass(k, kind) for k in kinds) and (
            kind[0] is bool or bool not in kinds
        ):
            return np.array(values.tolist())
    return values


def check_labels(y: np.ndarray, label_names, n: int):
    """Returns checked labels and label names; none of `y` is missing."""
    if label_names is not None:
        label_names = check_label_names(label_names)
    if y.dtype.kind in "UOT":
        if y.ndim != 1:
            raise TypeError(
                "Expected `y` to be strings of shape `(n,)` or numbers. "
                f"Received: shape {y.shape}, dtype {y.dtype}"
            )
        return encode_labels(np.asarray(y.tolist(), object), label_names)
    if y.dtype == bool:
        if label_names is None and y.ndim == 1:
            label_names = ("False", "True")
        y = y.astype("int32")
    if y.dtype.kind not in "iuf":
        raise TypeError(
            "Expected `y` to hold numbers or strings. Received: dtype "
            f"{y.dtype}"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        finite = np.isfinite(y).reshape(n, -1).all(axis=1)
        raise ValueError(
            "Expected `y` to be finite. Received: NaN or infinity in "
            f"{int((~finite).sum())} of {n} rows. Drop those rows."
        )
    if label_names is not None:
        return _check_named(y, label_names), label_names
    if y.dtype.kind in "iu" and y.ndim == 1:
        if y.min() < 0 or y.max() > np.iinfo("int32").max:
            raise ValueError(
                "Expected `y` as integers to hold classes, counted from 0. "
                f"Received: labels from {y.min()} to {y.max()}. Recode them, "
                "for instance with `numpy.unique(y, return_inverse=True)`, or "
                "pass them as strings."
            )
        y = y.astype("int32")
    return y, None


def warn_of_guesses(x, given: np.ndarray | None, label_names) -> None:
    """Warns of inputs or labels that can be read in two ways.

    Args:
        x: Checked inputs.
        given: The labels as the caller passed them, without missing ones.
        label_names: tuple of strings, as the caller passed them, or None.

    Raises:
        ValueError: If `label_names` are numbers in another order than the
            integers in `y`.
    """
    for values in x.values() if isinstance(x, dict) else _parts(x):
        if is_text(values) and all(map(IMAGE_FILE.fullmatch, values[:100])):
            warnings.warn(
                "`x` holds names of image files, which are read as texts: "
                f"{values[0]!r}. Pass the images: "
                "`keras_debias.data.ImageFiles(x)` reads them when needed, "
                "see also `Split.from_image_folder`.",
                stacklevel=4,
            )
    if given is None or given.ndim != 1:
        return
    if (
        given.dtype.kind == "f"
        and label_names is None
        and np.isfinite(given).all()
        and (given == np.round(given)).all()
    ):
        warnings.warn(
            "`y` holds whole numbers as floats, which are read as targets of "
            "a regression. For classes cast them with `y.astype('int32')`; "
            "for a regression give them the shape (n, 1).",
            stacklevel=4,
        )
    if label_names is None:
        return
    if given.dtype == bool:
        warnings.warn(
            f"`y` holds booleans, which are read as indices: False is "
            f"{label_names[0]!r} and True is {label_names[-1]!r}. Pass "
            "strings to be compared by name.",
            stacklevel=4,
        )
    elif given.dtype.kind in "iu" and all(n.isdecimal() for n in label_names):
        if [int(name) for name in label_names] != list(range(len(label_names))):
            raise ValueError(
                "`y` holds integers and `label_names` other numbers: are the "
                f"integers indices or names? Received: label_names="
                f"{label_names}. Pass `y` as strings to be compared by name, "
                "for instance `y.astype(str)`."
            )


def _parts(x) -> tuple:
    return x if isinstance(x, tuple) else (x,)


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
            f"Expected `y` to be indices into the {len(names)} `label_names`. "
            f"Received: labels from {y.min()} to {y.max()}, {outside} of "
            f"{len(y)} outside, label_names={names}. Drop rows without a gold "
            "label (-1) first."
        )
    return y.astype("int32")


def check_row_values(name: str, values) -> np.ndarray:
    """Returns one number a row, finite and not negative, or raises."""
    array = check_floats(name, values)
    if array.ndim != 1 or not len(array):
        raise ValueError(
            f"Expected `{name}` to hold one number a row, and at least one. "
            f"Received: shape {array.shape}"
        )
    wrong = int((~np.isfinite(array) | (array < 0)).sum())
    if wrong:
        raise ValueError(
            f"Expected `{name}` to be finite and not negative. Received: "
            f"{wrong} of {len(array)} values that are NaN, infinite or "
            "negative."
        )
    return array


def check_sample_weight(sample_weight, n: int, y=None) -> np.ndarray | None:
    """Returns checked float32 sample weights, of rows or of tokens."""
    if sample_weight is None:
        return None
    check_unmasked(sample_weight, "`sample_weight`")
    weight = np.array(sample_weight)
    of_tokens = y is not None and y.ndim > 1 and weight.shape == y.shape
    if weight.shape != (n,) and not of_tokens:
        raise ValueError(
            f"Expected `sample_weight` to have one value a row of `x` ({n}), "
            "or the shape of labels of tokens. "
            f"Received: shape {weight.shape}"
        )
    if weight.dtype.kind not in "biuf":
        raise TypeError(
            "Expected `sample_weight` to hold numbers. Received: dtype "
            f"{weight.dtype}"
        )
    weight = weight.astype("float32")
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any():
        raise ValueError(
            "Expected `sample_weight` to be finite and not negative. Received: "
            f"{int(wrong.sum())} of {n} values that are NaN, infinite or "
            "negative."
        )
    return weight
