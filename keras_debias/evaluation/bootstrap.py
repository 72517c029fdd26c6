"""Percentile bootstrap over rows, for group accuracies."""

import dataclasses

import numpy as np

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of one split; None where nothing is to be estimated."""

    accuracy: Interval | None = None
    worst_group_accuracy: Interval | None = None
    gap: Interval | None = None
    groups: tuple[Interval | None, ...] | None = None


def _interval(values: np.ndarray, confidence: float) -> Interval | None:
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_intervals(
    correct: np.ndarray,
    ids: np.ndarray | None,
    num_groups: int,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> Intervals:
    """Resamples rows, all groups jointly.

    The statistics depend on the rows only through the counts of (group,
    right or wrong), and drawing n rows with replacement makes these counts
    multinomial: they are drawn directly, without indices.

    Args:
        correct: Boolean array of shape `(n,)`.
        ids: Integer array of shape `(n,)` of groups, or None.
        num_groups: Integer, the number of groups.
        resamples: Integer; 0 gives no intervals.
        confidence: Float, for instance 0.95.
        rng: `numpy.random.Generator`.

    Returns:
        `Intervals`.
    """
    if resamples == 0:
        return Intervals()
    n = len(correct)
    groups = np.zeros(n, dtype="int64") if ids is None else ids
    size = max(num_groups, 1)
    cells = np.bincount(
        groups * 2 + correct.astype("int64"), minlength=2 * size
    )
    counts = rng.multinomial(n, cells / n, size=resamples)
    counts = counts.reshape(resamples, size, 2)
    overall = counts[:, :, 1].sum(axis=1) / n
    accuracy = _interval(overall, confidence)
    if ids is None:
        return Intervals(accuracy=accuracy)
    totals = counts.sum(axis=2)
    by_group = np.full(totals.shape, np.nan)
    np.divide(counts[:, :, 1], totals, out=by_group, where=totals > 0)
    # a group without rows in a resample cannot be its worst
    worst = np.where(np.isnan(by_group), np.inf, by_group).min(axis=1)
    return Intervals(
        accuracy=accuracy,
        worst_group_accuracy=_interval(worst, confidence),
        gap=_interval(overall - worst, confidence),
        groups=tuple(_interval(g, confidence) for g in by_group.T),
    )
