"""Label names: how they are compared, and labels as integers."""

import re
import unicodedata
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from collections.abc import Set

import numpy as np
import pandas as pd

# Spellings of a missing label in SNLI, R, NumPy, SQL and Python.
NO_LABEL = frozenset(
    [
        "",
        "-",
        "--",
        "?",
        "na",
        "n/a",
        "#n/a",
        "nan",
        "<na>",
        "nat",
        "null",
        "\\n",
        "none",
        "-1",
        "-1.0",
    ]
)
LISTED = 10


def normalize_label(name: str) -> str:
    """Returns the form in which two spellings of a label name are equal.

    Case, blanks, hyphens, underscores and invisible characters are ignored. A
    leading "non", joined or not, is the same as "not". Numbers are equal by
    value: "1" and "1.0".

    Args:
        name: string, the label name as spelled by the data.

    Returns:
        A string, the normalized name.

    Example:

    >>> normalize_label("non-entailment") == normalize_label("Not Entailment")
    True
    >>> normalize_label("nonentailment")
    'not entailment'
    """
    text = unicodedata.normalize("NFKC", str(name)).casefold()
    # Zero-width blanks and marks of direction.
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    # Not 007, which is a code.
    if re.fullmatch(r"\s*[+-]?(0|[1-9]\d{,14})(\.\d*)?\s*", text, re.ASCII):
        return f"{float(text):.15g}"
    words = [word for word in re.split(r"[\s_\-]+", text) if word]
    if len(words) > 1 and words[0] == "non":
        words[0] = "not"
    elif len(words) == 1 and (joined := re.fullmatch(r"non(\w{4,})", text)):
        words = ["not", joined[1]]
    return " ".join(words)


def missing_labels(
    values: Sequence, label_names: Sequence[str] | None = None
) -> np.ndarray:
    """Returns which labels mean that a row has no label.

    These are empty cells, NaN, None, -1, and the words "-", "NA", "nan",
    "NULL", "\\N" and "None", unless `label_names` holds that very word.

    Args:
        values: array of labels of shape `(n,)`.
        label_names: sequence of strings, or None.

    Returns:
        A bool array of shape `(n,)`.
    """
    array = np.asarray(values)
    if array.dtype.kind == "i":
        return array == -1
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind in "ub":
        return np.zeros(len(array), dtype=bool)
    codes, distinct = pd.factorize(array.astype(object))
    known = set(label_names or ())
    says_none = np.array(
        [
            str(value).strip().casefold() in NO_LABEL and value not in known
            for value in distinct
        ],
        dtype=bool,
    )
    # Code -1 is NaN, None or `pandas.NA`.
    return np.append(says_none, True)[codes]


def warn_of_missing_labels(
    values: Sequence, missing: np.ndarray, where: str, stacklevel: int = 3
) -> None:
    """Warns how many rows without a label are dropped, or raises.

    Args:
        values: array of labels of shape `(n,)`.
        missing: bool array of shape `(n,)`, see `missing_labels`.
        where: string, the argument or column that holds the labels.
        stacklevel: int, as for `warnings.warn`.

    Raises:
        ValueError: If no row has a label, or -1 may be a class.
    """
    count = int(missing.sum())
    if not count:
        return
    values = np.asarray(values)
    spelled = sorted({_shown(value) for value in values[missing]})
    if missing.all():
        raise ValueError(
            f"No row has a gold label: all {len(missing)} of {len(missing)} "
            f"rows of {where} say {', '.join(spelled)}, as in a test split "
            "whose labels are withheld. Use another split."
        )
    rest = {str(value) for value in values[~missing]}
    if rest <= {"1", "1.0"} and set(spelled) <= {"'-1'", "-1", "'-1.0'"}:
        raise ValueError(
            f"{where} holds the labels -1 and 1, and -1 stands for a missing "
            "label. Recode the classes as 0 and 1, for instance with "
            "`(y > 0).astype('int32')`, or pass label names."
        )
    warnings.warn(
        f"Dropped {count} of {len(missing)} rows that have no gold label "
        f"({', '.join(spelled[:LISTED])} in {where}). Where that is a class, "
        "put it into `label_names`, or give it a number from 0 on.",
        stacklevel=stacklevel,
    )


def _shown(value) -> str:
    if isinstance(value, str):
        return repr(value)
    return "NaN" if pd.isna(value) else str(value)


def merge_spellings(
    codes: np.ndarray, names: Sequence[str], stacklevel: int = 6
) -> tuple[np.ndarray, list[str]]:
    """Merges all spellings of a name into one class, with a warning.

    Args:
        codes: int array of shape `(n,)`, indices into `names`.
        names: sequence of strings.
        stacklevel: int, as for `warnings.warn`.

    Returns:
        Tuple `(codes, names)`: the most frequent spelling names the class.
    """
    spellings = {}
    for index, name in enumerate(names):
        spellings.setdefault(normalize_label(name), []).append(index)
    if len(spellings) == len(names):
        return codes, list(names)
    counts = np.bincount(codes, minlength=len(names))
    chosen = {
        index: max(group, key=lambda i: counts[i])
        for group in spellings.values()
        for index in group
    }
    # Sorted names stay sorted, those of a `pandas.Categorical` keep theirs.
    classes = sorted(set(chosen.values()))
    merged = [
        ", ".join(f"{names[i]!r} ({counts[i]} rows)" for i in group)
        for group in spellings.values()
        if len(group) > 1
    ]
    warnings.warn(
        "`y` spells one label in several ways; each of these is read as one "
        f"class: {'; '.join(merged[:LISTED])}. Pass `label_names` to name "
        "the classes; names that are spelled exactly there stay apart.",
        stacklevel=stacklevel,
    )
    moved = np.array([classes.index(chosen[i]) for i in range(len(names))])
    return moved[codes], [names[i].strip() for i in classes]


def match_labels(
    names: Sequence[str], known: Sequence[str]
) -> list[int | None]:
    """Returns the index in `known` of each of `names`, None if unknown.

    An exact match comes before one of the normalized names. A name whose
    normalized form matches two of `known` is unknown.
    """
    exact = {name: i for i, name in enumerate(known)}
    loose = {}
    for i, name in enumerate(known):
        key = normalize_label(name)
        loose[key] = None if key in loose else i
    return [
        exact[name] if name in exact else loose.get(normalize_label(name))
        for name in names
    ]


def check_label_names(label_names: Sequence[str]) -> tuple[str, ...]:
    """Returns `label_names` as a tuple of distinct strings, or raises."""
    if isinstance(label_names, str):
        raise TypeError(
            "Expected `label_names` to be a sequence of strings, one a class. "
            f"Received: label_names={label_names!r}. Pass "
            f"`label_names=({label_names!r}, ...)`."
        )
    if isinstance(label_names, (Set, Mapping)):
        raise TypeError(
            "Expected `label_names` to be a sequence of strings, one a class, "
            "in the order of the classes. Received: "
            f"label_names={label_names!r}, a {type(label_names).__name__}, "
            "whose order may be another. Pass a list."
        )
    if not np.iterable(label_names):
        raise TypeError(
            "Expected `label_names` to be a sequence of strings, one a class. "
            f"Received: label_names={label_names!r}"
        )
    names = tuple(label_names)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(
            "Expected `label_names` to be a sequence of strings, one a class. "
            f"Received: label_names={names}"
        )
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "Expected `label_names` to hold at least one name, and each only "
            f"once. Received: label_names={names}"
        )
    return tuple(str(name) for name in names)


def encode_labels(
    y: Sequence[str], label_names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns label strings into int32 labels.

    Args:
        y: array of strings, shape `(n,)`.
        label_names: sequence of strings or None (the sorted unique labels).

    Returns:
        Tuple `(labels, label_names)`.
    """
    wrong = next((v for v in y if not isinstance(v, str)), None)
    if wrong is not None:
        raise TypeError(
            "Expected `y` to hold either strings or numbers, not a mixture. "
            f"Received: {wrong!r} (of type {type(wrong).__name__}) among "
            "strings."
        )
    codes, found = pd.factorize(np.asarray(y, dtype=object), sort=True)
    if label_names is None:
        names = [str(name) for name in found]
        codes, names = merge_spellings(codes, names)
        return codes.astype("int32"), tuple(names)
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
        labels: sequence of sequences of strings, one a row; may be empty.
        label_names: sequence of strings, the columns of the result.

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
        y: int labels `(n,)`, or one column a label `(n, labels)`.
        indices: sequence of integers, the new index of each label.
        size: int, the new number of labels.

    Returns:
        Array of the same kind.
    """
    if y.ndim == 1:
        return np.asarray(indices, dtype="int32")[y]
    result = np.zeros((len(y), size), dtype=y.dtype)
    result[:, list(indices)] = y
    return result
