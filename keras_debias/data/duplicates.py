"""Rows with the same inputs: counted within and between splits."""

import hashlib
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from keras_debias.data.image_files import ImageFiles


def content_keys(x) -> np.ndarray:
    """Returns one integer a row, equal where all inputs of rows are equal.

    Args:
        x: Checked inputs of a `Split`. Case and runs of blanks of texts do
            not count.

    Returns:
        Int64 array of shape `(n,)`.
    """
    return pd.factorize(np.array(_contents(x), dtype=object))[0]


def _contents(x) -> list:
    if isinstance(x, dict):
        x = tuple(x[name] for name in sorted(x, key=str))
    if not isinstance(x, tuple):
        return _keys_of(x)
    columns = [_keys_of(part) for part in x]
    # One string for each row: tuples would become a second array axis.
    return ["\x1f".join(row) for row in zip(*columns, strict=True)]


def _keys_of(values) -> list[str]:
    if isinstance(values, ImageFiles):
        return values.digests()
    if values.dtype == object:
        return [" ".join(text.casefold().split()) for text in values]
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    return [hashlib.md5(_bytes(row)).hexdigest() for row in rows]


def _bytes(row) -> bytes:
    """The same of equal numbers, whatever their dtype; -0.0 is 0.0."""
    with np.errstate(invalid="ignore"):
        small = row.astype("uint8")
    if (small == row).all():
        return small.tobytes()
    wide = row.astype("float64") + 0.0
    if row.dtype.kind in "iu" and np.abs(wide).max() > 2**53:
        return row.tobytes()  # floats would join different integers
    return wide.tobytes()


def content_folds(
    split, folds: int, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified folds that keep rows with the same inputs together.

    Args:
        split: `Split` with one class a row.
        folds: int, at least 2.
        seed: int, of the folds. Defaults to `0`.

    Returns:
        List of pairs of integer arrays: the rows to fit, those held out.
    """
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.model_selection import StratifiedKFold

    keys = content_keys(split.x)
    if not folds <= len(np.unique(keys)) < len(keys):
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(parts.split(keys, split.y))
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes whose rows are few and equal cannot be in every fold.
        warnings.simplefilter("ignore", UserWarning)
        return list(parts.split(keys, split.y, keys))


def duplicates(splits) -> pd.DataFrame:
    """Counts rows whose inputs occur more than once, within and between.

    Texts are equal if they differ in case and blanks only; of pairs of
    texts, both must be equal. Numbers must be equal exactly.

    Args:
        splits: `Split`, or dict from name to `Split`, for instance
            `{"train": train, "test": test}`.

    Returns:
        `pandas.DataFrame` with one line a split (`first == second`) and one
        a pair of splits that share inputs. Columns: `first`, `second`,
        `rows`, the rows of `second` whose inputs occur in `first` (within a
        split: in an earlier row), `share` of the rows of `second`, and
        `conflicting`, those of them with another label there.

    Raises:
        TypeError: If something is not a `Split`.
        ValueError: If there is no split.

    Example:

    >>> train = Split(["It rains.", "A dog.", "a dog."], [0, 1, 1])
    >>> test = Split(["It rains.", "A cat."], [1, 1])
    >>> duplicates({"train": train, "test": test})
       first second  rows     share  conflicting
    0  train  train     1  0.333333            0
    1  train   test     1  0.500000            1
    2   test   test     0  0.000000            0
    """
    from keras_debias.data.split import Split

    if isinstance(splits, Split):
        splits = {splits.name or "split": splits}
    if not isinstance(splits, Mapping) or not all(
        isinstance(split, Split) for split in splits.values()
    ):
        raise TypeError(
            "Expected `splits` to be a `Split` or a dict from name to "
            f"`Split`. Received: {type(splits).__name__}"
        )
    if not splits:
        raise ValueError("Expected at least one split. Received: splits={}")
    contents = {name: _contents(split.x) for name, split in splits.items()}
    labels = {name: _labels(split) for name, split in splits.items()}
    lines, names = [], list(splits)
    for i, first in enumerate(names):
        known = {}
        for key, label in zip(contents[first], labels[first], strict=True):
            known.setdefault(key, set()).add(label)
        for second in names[i:]:
            if first == second:
                count, conflicting = _within(contents[first], labels[first])
            else:
                found = [
                    (known[key], label)
                    for key, label in zip(
                        contents[second], labels[second], strict=True
                    )
                    if key in known
                ]
                count = len(found)
                conflicting = sum(there != {own} for there, own in found)
                if not count:
                    continue
            share = count / len(contents[second])
            lines.append((first, second, count, share, conflicting))
    return pd.DataFrame(
        lines, columns=["first", "second", "rows", "share", "conflicting"]
    )


def _within(contents, labels) -> tuple[int, int]:
    first, count, conflicting = {}, 0, 0
    for key, label in zip(contents, labels, strict=True):
        if key not in first:
            first[key] = label
            continue
        count += 1
        conflicting += label != first[key]
    return count, conflicting


def _labels(split) -> list:
    """Labels that can be compared between splits: names, if there are any."""
    if split.y is None:
        return [None] * len(split)
    if split.y.ndim > 1:
        return [tuple(row.ravel().tolist()) for row in split.y]
    if split.label_names is None or split.y.dtype.kind == "f":
        return split.y.tolist()
    from keras_debias.data.labels import normalize_label

    names = [normalize_label(name) for name in split.label_names]
    return [names[i] for i in split.y]
