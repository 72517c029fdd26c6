"""Intervals of accuracies: of all rows, of groups, of the worst, of the gap."""

import dataclasses

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

Interval = tuple[float, float]
# Numbers held at a time while rows are resampled.
CHUNK = 4_000_000


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of one split; None where nothing is estimated."""

    accuracy: Interval | None = None
    worst_group_accuracy: Interval | None = None
    gap: Interval | None = None
    groups: tuple[Interval | None, ...] | None = None


def clopper_pearson(
    right: float | np.ndarray, n: float | np.ndarray, tail: float
) -> tuple:
    """The exact interval of a binomial share.

    It holds the true share with a probability of at least `1 - 2 * tail`,
    for any share and any number of rows: 0 of 5 is [0, 0.52] and not [0, 0].

    Args:
        right: float or array, the number of hits; weighted counts need not
            be whole.
        n: float or array, the number of rows.
        tail: float, the probability left out at each end.

    Returns:
        Tuple of the lower and the upper end; [0, 1] where `n` is zero.

    Reference:

    - Clopper and Pearson, The use of confidence or fiducial limits, 1934.
      Counts that are not whole: Korn and Graubard, Confidence intervals for
      proportions with small expected number of positive counts, 1998.
    """
    right, n = np.asarray(right, "float64"), np.asarray(n, "float64")
    wrong = n - right
    # `beta` is undefined at 0, where the end is 0 or 1.
    low = stats.beta.ppf(tail, np.maximum(right, 1e-300), wrong + 1)
    high = stats.beta.ppf(1 - tail, right + 1, np.maximum(wrong, 1e-300))
    low = np.where(right > 0, low, 0.0)
    high = np.where(wrong > 0, high, 1.0)
    return low, high


def _ends(shares, sizes, tail) -> tuple:
    """Widens intervals that rounding would push off their share."""
    low, high = clopper_pearson(shares * sizes, sizes, tail)
    return np.minimum(low, shares), np.maximum(high, shares)


def _of_parts(correct, weight, members) -> tuple:
    """Shares, effective sizes and weights of parts, `(parts,)` each.

    The effective size is how many equal weights tell as much (Kish, 1965).
    """
    totals = weight @ members
    squares = np.square(weight) @ members
    hits = (weight * correct) @ members
    shares, sizes = np.zeros_like(totals), np.zeros_like(totals)
    np.divide(hits, totals, out=shares, where=totals > 0)
    np.divide(totals**2, squares, out=sizes, where=totals > 0)
    return np.clip(shares, 0.0, 1.0), sizes, totals


def accuracy_intervals(
    correct: np.ndarray,
    members: np.ndarray | None,
    counted: np.ndarray | None,
    weight: np.ndarray | None,
    confidence: float,
) -> Intervals:
    """Intervals of all accuracies of a split, given the sizes of its groups.

    All rows and single groups: Clopper and Pearson, with the effective
    number of rows where rows have weights.

    The worst group is the minimum over groups, so an interval around the
    lowest observed accuracy would be too low. The lower end is the lowest of
    the groups' lower ends, each at the level of the whole: it is above the
    true minimum only if that of the truly worst group is (intersection-union).
    The upper end is the lowest of the groups' upper ends, each at its share of
    the level (Bonferroni), as any group may be the one that misleads. Together
    they hold the accuracy of the truly worst group with at least the requested
    confidence, however the groups are related, also if they overlap.

    The gap is the maximum over groups of accuracy minus group accuracy,
    which is `(1 - share) * (accuracy of the others - accuracy of the
    group)`: a difference of two independent shares. Their intervals are
    combined into one of the difference (MOVER), and these as above, with the
    ends exchanged. Where every row is in one group, the gap is not negative,
    and an interval that begins at 0 says that the groups may be alike.

    Args:
        correct: bool array of shape `(n,)`.
        members: bool array of shape `(n, groups)`, or None.
        counted: bool array of shape `(groups,)`: the groups among which
            the worst is sought.
        weight: float array of shape `(n,)`, or None.
        confidence: float, for instance 0.95.

    Returns:
        `Intervals`.

    Reference:

    - Berger, Multiparameter hypothesis testing and acceptance sampling,
      1982 (intersection-union).
    - Newcombe, Interval estimation for the difference between independent
      proportions, 1998, method 10, and Zou and Donner, Construction of
      confidence limits about effect measures, 2008 (MOVER).
    """
    correct = np.asarray(correct, dtype="float64")
    weight = np.ones(len(correct)) if weight is None else weight
    tail = (1 - confidence) / 2
    whole = np.ones((len(correct), 1))
    accuracy, size, total = _of_parts(correct, weight, whole)
    low, high = _ends(accuracy, size, tail)
    overall = (float(low[0]), float(high[0]))
    if members is None:
        return Intervals(accuracy=overall)
    shares, sizes, totals = _of_parts(correct, weight, members)
    low, high = _ends(shares, sizes, tail)
    groups = tuple(
        (float(a), float(b)) if n else None
        for a, b, n in zip(low, high, sizes, strict=True)
    )
    chosen = np.asarray(counted) & (sizes > 0)
    if not chosen.any():
        return Intervals(accuracy=overall, groups=groups)
    shares, sizes, totals = shares[chosen], sizes[chosen], totals[chosen]
    low, high = low[chosen], high[chosen]
    several = tail / len(shares)
    _, highest = _ends(shares, sizes, several)
    others, other_sizes, _ = _of_parts(correct, weight, ~members[:, chosen])
    part = 1 - totals / total
    difference = others - shares
    other_low, _ = _ends(others, other_sizes, several)
    _, other_high = _ends(others, other_sizes, tail)
    below = np.hypot(others - other_low, highest - shares)
    above = np.hypot(other_high - others, shares - low)
    least = float((part * (difference - below)).max())
    most = float((part * (difference + above)).max())
    if (members[:, chosen].sum(axis=1) == 1).all():
        least, most = max(least, 0.0), max(most, 0.0)
    return Intervals(
        accuracy=overall,
        worst_group_accuracy=(float(low.min()), float(highest.min())),
        gap=(least, most),
        groups=groups,
    )


def f1_interval(
    labels: np.ndarray,
    predictions: np.ndarray,
    weight: np.ndarray | None,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval | None:
    """The percentile bootstrap of the weighted F1, over rows.

    Args:
        labels, predictions: int arrays of shape `(n,)`, or boolean ones
            of shape `(n, labels)`.
        weight: float array of shape `(n,)`, or None.
        resamples: int; 0 gives None.
        confidence: float, for instance 0.95.
        seed: int.

    Returns:
        Tuple of two floats, or None.

    Reference:

    - Efron, Better bootstrap confidence intervals, 1987.
    """
    if not resamples:
        return None
    rng = np.random.default_rng(seed)
    n = len(labels)
    if labels.ndim == 1:
        found = _resampled_f1(labels, predictions, weight, resamples, rng)
    else:
        # Counts of hits, of predictions and of labels, label by label.
        columns = np.concatenate(
            [labels & predictions, predictions, labels], axis=1
        ).astype("float64")
        if weight is not None:
            columns *= weight[:, None]
        drawn = _drawn_sums(columns, n, resamples, rng)
        found = _weighted_f1(*np.split(drawn, 3, axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_f1(labels, predictions, weight, resamples, rng) -> np.ndarray:
    """F1 of resamples of rows with one label."""
    n, size = len(labels), int(max(labels.max(), predictions.max())) + 1
    values = np.ones(n) if weight is None else weight
    cells = np.stack([labels, predictions, values], axis=1)
    cells, counts = np.unique(cells, axis=0, return_counts=True)
    truth, said = cells[:, 0].astype(int), cells[:, 1].astype(int)
    to_truth = np.eye(size)[truth] * cells[:, 2:]
    to_said = np.eye(size)[said] * cells[:, 2:]
    to_hits = to_truth * (truth == said)[:, None]
    columns = np.concatenate([to_hits, to_said, to_truth], axis=1)
    drawn = _drawn_sums(columns, n, resamples, rng, counts)
    return _weighted_f1(*np.split(drawn, 3, axis=1))


def _drawn_sums(columns, n, resamples, rng, counts=None) -> np.ndarray:
    """Sums of the columns over resampled rows, `(resamples, columns)`.

    Rows that are equal are drawn together: drawing n rows with replacement
    makes their counts multinomial.
    """
    if counts is None:
        columns, counts = np.unique(columns, axis=0, return_counts=True)
    parts, step = [], max(CHUNK // len(columns), 1)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        parts.append(rng.multinomial(n, counts / n, size=count) @ columns)
    return np.concatenate(parts)


def _weighted_f1(hits, said, true) -> np.ndarray:
    f1 = 2 * hits / np.maximum(said + true, 1e-12)
    return (f1 * true).sum(axis=1) / np.maximum(true.sum(axis=1), 1e-12)


def weighted_f1(labels, predictions, weight) -> float:
    """F1 averaged over classes by their frequency, as scikit-learn's."""
    return float(
        f1_score(
            labels,
            predictions,
            average="weighted",
            sample_weight=weight,
            zero_division=0,
        )
    )
