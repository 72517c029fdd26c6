"""Accuracy by group, in NumPy: worst group, gap, weighted average."""

from collections.abc import Sequence

import numpy as np


def _numbers(name: str, values) -> np.ndarray:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "biuf":
        raise TypeError(
            f"Expected `{name}` to be an array of numbers. Received: dtype "
            f"{array.dtype}, {str(values)[:60]}"
        )
    return array.astype("float64")


def group_accuracy(
    correct: Sequence[bool], ids: Sequence[int], num_groups: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the accuracy and the number of rows of each group.

    Args:
        correct: bool array of shape `(n,)`, whether each row is right.
        ids: int array of shape `(n,)`, the group of each row.
        num_groups: int, the number of groups. Defaults to `None`: the
            largest id plus one.

    Returns:
        Tuple of a float64 array of accuracies, NaN where a group is empty,
        and an int64 array of row counts, both of shape `(num_groups,)`.

    Raises:
        ValueError: If shapes differ or an id is out of range.
        TypeError: If `ids` or `num_groups` are not integers, or `correct`
            holds no numbers.

    Example:

    >>> accuracies, counts = group_accuracy([True, False, True], [0, 0, 1])
    >>> accuracies.tolist(), counts.tolist()
    ([0.5, 1.0], [2, 1])
    """
    correct, ids = _numbers("correct", correct), np.asarray(ids)
    if correct.ndim != 1 or correct.shape != ids.shape:
        raise ValueError(
            "Expected `correct` and `ids` to be 1-D and of one length. "
            f"Received: shapes {correct.shape} and {ids.shape}"
        )
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(
            "Expected `ids` to be integers, one a row. Received: dtype "
            f"{ids.dtype}"
        )
    if num_groups is not None and (
        isinstance(num_groups, bool)
        or not isinstance(num_groups, (int, np.integer))
    ):
        raise TypeError(
            "Expected `num_groups` to be an integer or None. Received: "
            f"num_groups={num_groups!r}"
        )
    if num_groups is None:
        num_groups = int(ids.max()) + 1 if ids.size else 0
    if ids.size and (ids.min() < 0 or ids.max() >= num_groups):
        raise ValueError(
            f"Expected `ids` to be between 0 and {num_groups - 1}. Received: "
            f"ids from {ids.min()} to {ids.max()}"
        )
    ids = ids.astype("int64")
    counts = np.bincount(ids, minlength=num_groups)
    right = np.bincount(ids, weights=correct, minlength=num_groups)
    accuracies = np.full(num_groups, np.nan)
    np.divide(right, counts, out=accuracies, where=counts > 0)
    return accuracies, counts


def worst_group(accuracies: Sequence[float]) -> int | None:
    """Returns the index of the worst group.

    Args:
        accuracies: float array of shape `(num_groups,)`; NaN where empty.

    Returns:
        An int, the first of those that are equally bad; `None` if all groups
        are empty.

    Raises:
        TypeError: If `accuracies` are not numbers.

    Example:

    >>> worst_group([0.9, float("nan"), 0.4])
    2
    """
    accuracies = _numbers("accuracies", accuracies)
    if not np.isfinite(accuracies).any():
        return None
    return int(np.nanargmin(accuracies))


def accuracy_gap(overall: float, accuracies: Sequence[float]) -> float:
    """Returns the overall accuracy minus that of the worst group.

    Args:
        overall: float, the accuracy over all rows.
        accuracies: float array of shape `(num_groups,)`; NaN where empty.

    Returns:
        A float, 0 where all groups are as good as the whole; NaN if all
        groups are empty.

    Raises:
        TypeError: If `overall` is not a number, or `accuracies` are none.

    Example:

    >>> accuracy_gap(0.75, [1.0, 0.5])
    0.25
    """
    if isinstance(overall, bool) or not isinstance(
        overall, (int, float, np.number)
    ):
        raise TypeError(
            f"Expected `overall` to be a number. Received: overall={overall!r}"
        )
    worst = worst_group(accuracies)
    if worst is None:
        return float("nan")
    return float(overall) - float(np.asarray(accuracies)[worst])


def weighted_group_accuracy(
    accuracies: Sequence[float], shares: Sequence[float]
) -> float:
    """Returns the average of group accuracies under given group shares.

    With the shares of the training set this is the accuracy that the test
    set would give if its groups were as frequent as in training. Empty
    groups are left out and the other shares scaled up.

    Args:
        accuracies: float array of shape `(num_groups,)`; NaN where empty.
        shares: float array of shape `(num_groups,)`, not negative.

    Returns:
        A float; NaN if no group with a share has rows.

    Raises:
        ValueError: If shapes differ or a share is negative.

    Example:

    >>> weighted_group_accuracy([1.0, 0.5], [0.8, 0.2])
    0.9

    Reference:

    - [Group DRO](https://arxiv.org/abs/1911.08731) reports average accuracy
      this way.
    """
    accuracies = _numbers("accuracies", accuracies)
    shares = _numbers("shares", shares)
    if accuracies.shape != shares.shape:
        raise ValueError(
            "Expected `accuracies` and `shares` to have one shape. Received: "
            f"shapes {accuracies.shape} and {shares.shape}"
        )
    if not (shares >= 0).all():
        raise ValueError(
            f"Expected `shares` not to be negative or NaN. Received: {shares}"
        )
    used = np.isfinite(accuracies)
    total = shares[used].sum()
    if total == 0:
        return float("nan")
    return float((accuracies[used] * shares[used]).sum() / total)
