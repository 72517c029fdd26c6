"""Label names: how they are compared, and labels as integers."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd


def normalize_label(name: str) -> str:
    """Returns the form in which two spellings of a label name are equal.

    Case, blanks, hyphens and underscores do not count, and a leading "non"
    is the same as "not".

    Args:
        name: String, the label name as spelled by the data.

    Returns:
        String, the normalized name.

    Example:

    >>> normalize_label("non-entailment") == normalize_label("Not Entailment")
    True
    """
    words = [w for w in re.split(r"[\s_\-]+", str(name).lower()) if w]
    if len(words) > 1 and words[0] == "non":
        words[0] = "not"
    return " ".join(words)


def match_labels(
    names: Sequence[str], known: Sequence[str]
) -> list[int | None]:
    """Returns the index in `known` of each of `names`, None if unknown.

    An exact match goes before one of the normalized names.
    """
    exact = {name: i for i, name in enumerate(known)}
    loose = {}
    for i, name in enumerate(known):
        loose.setdefault(normalize_label(name), i)
    return [
        exact[name] if name in exact else loose.get(normalize_label(name))
        for name in names
    ]


def check_label_names(label_names: Sequence[str]) -> tuple[str, ...]:
    """Returns `label_names` as a tuple of distinct strings, or raises."""
    if isinstance(label_names, str):
        raise TypeError(
            "`label_names` must be a sequence of strings, one a class. "
            f"Received: label_names={label_names!r}. Pass "
            f"`label_names=({label_names!r}, ...)`."
        )
    names = tuple(label_names)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(
            "`label_names` must be a sequence of strings, one a class. "
            f"Received: label_names={names}"
        )
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "`label_names` must hold at least one name, and each only once. "
            f"Received: label_names={names}"
        )
    return tuple(str(name) for name in names)


def encode_labels(
    y: Sequence[str], label_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns label strings into int32 labels.

    Args:
        y: Array of strings, shape `(n,)`.
        label_names: Sequence of strings or None (the sorted unique labels).

    Returns:
        Tuple `(labels, label_names)`.
    """
    missing = int(pd.isna(y).sum())
    if missing:
        raise ValueError(
            f"`y` has {missing} missing labels in {len(y)} rows. Drop those "
            "rows, or give them a label of their own."
        )
    wrong = next((v for v in y if not isinstance(v, str)), None)
    if wrong is not None:
        raise TypeError(
            "`y` must hold either strings or numbers, not a mixture. "
            f"Received: {wrong!r} (of type {type(wrong).__name__}) among "
            "strings."
        )
    codes, found = pd.factorize(np.asarray(y, dtype=object), sort=True)
    if label_names is None:
        names = tuple(str(name) for name in found)
        return codes.astype("int32"), names
    names = check_label_names(label_names)
    indices = match_labels(list(found), names)
    unknown = [n for n, i in zip(found, indices, strict=True) if i is None]
    if unknown:
        raise ValueError(
            f"`y` has labels that are not in `label_names`: {unknown[:10]}. "
            f"Received: label_names={names}. Add them to `label_names`, or "
            "drop those rows."
        )
    return np.asarray(indices, dtype="int32")[codes], names


def multi_hot(
    labels: Sequence[Sequence[str]], label_names: Sequence[str]
) -> np.ndarray:
    """Turns lists of label names into a float32 array of zeros and ones.

    Args:
        labels: Sequence of sequences of strings, one a row; may be empty.
        label_names: Sequence of strings, the columns of the result.

    Returns:
        Float32 array of shape `(len(labels), len(label_names))`.
    """
    names = check_label_names(label_names)
    result = np.zeros((len(labels), len(names)), dtype="float32")
    for row, row_labels in enumerate(labels):
        for name, column in zip(
            row_labels, match_labels(row_labels, names), strict=True
        ):
            if column is None:
                raise ValueError(
                    f"Row {row} has the label {name!r}, which is not in "
                    f"`label_names`. Received: label_names={names}"
                )
            result[row, column] = 1.0
    return result


def reindex(y: np.ndarray, indices: Sequence[int], size: int) -> np.ndarray:
    """Moves label `i` to `indices[i]` of `size` labels.

    Args:
        y: Integer labels `(n,)`, or one column a label `(n, labels)`.
        indices: Sequence of integers, the new index of each label.
        size: Integer, the new number of labels.

    Returns:
        Array of the same kind.
    """
    if y.ndim == 1:
        return np.asarray(indices, dtype="int32")[y]
    result = np.zeros((len(y), size), dtype=y.dtype)
    result[:, list(indices)] = y
    return result
