"""Any metric, overall and by group, with bootstrap intervals."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_debias.evaluation.metric_score import MetricScore
from keras_debias.metrics.built_in_metric import BuiltInMetric
from keras_debias.metrics.metric import Metric
from keras_debias.metrics.metric_data import MetricData

# Numbers held at a time while rows are resampled.
CHUNK = 4_000_000
# With fewer defined resamples there is no interval.
DEFINED = 0.5


def measure(
    metrics: Mapping[str, Metric],
    data: MetricData | None,
    weight: np.ndarray | None,
    group_names: Sequence[str],
    members: np.ndarray | None,
    counted: np.ndarray | None,
    settings,
) -> dict[str, MetricScore]:
    """Computes metrics of all rows and of each group.

    Rows are resampled with replacement (percentile bootstrap). The intervals
    of the worst group, of the gap and of the ratio are combined from those of
    the groups as `accuracy_intervals` does: the worst of the observed groups
    is a minimum, and its own interval would lie too low.

    Args:
        metrics: dict from name to `Metric`.
        data: `MetricData` of `n` rows; may be None without metrics.
        weight: float array of shape `(n,)`, or None.
        group_names: sequence of strings.
        members: bool array of shape `(n, groups)`, or None.
        counted: bool array of shape `(groups,)`: the groups among which
            the worst is sought; or None.
        settings: `Settings`.

    Returns:
        Dict from name to `MetricScore`.

    Raises:
        ValueError: If a metric does not fit the data.

    Reference:

    - Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter
      13.
    """
    if not metrics or data is None:
        return {}
    for metric in metrics.values():
        metric.check(data, weight)
    if members is None:
        members = np.zeros((len(data), 0), dtype=bool)
        group_names, counted = (), np.zeros(0, dtype=bool)
    values = {
        name: _by_group(metric, data, weight, members)
        for name, metric in metrics.items()
    }
    drawn = {}
    if settings.bootstrap:
        small = {n: m for n, m in metrics.items() if _of_counts(m, data)}
        large = {n: m for n, m in metrics.items() if n not in small}
        if small:
            parts = (*_distinct(data, weight, members), settings)
            drawn |= _resampled(small, *parts)
        if large:
            drawn |= _resampled(large, data, weight, members, None, settings)
    return {
        name: _score(
            name,
            metric,
            values[name],
            drawn.get(name),
            group_names,
            counted,
            settings.confidence,
        )
        for name, metric in metrics.items()
    }


def _by_group(metric, data, weight, members) -> np.ndarray:
    """The metric of all rows, and of each group: `(1 + groups,)`."""
    metric.check(data, weight)
    found = [metric.value(data, weight)]
    for inside in members.T:
        part = None if weight is None else weight[inside]
        sound = inside.any() and (part is None or part.sum() > 0)
        found.append(
            metric.lenient(data.take(inside), part) if sound else np.nan
        )
    return np.asarray(found, "float64")


def _of_counts(metric, data) -> bool:
    """Whether a metric depends only on counts of equal rows."""
    return (
        isinstance(metric, BuiltInMetric)
        and metric.on == "predictions"
        and data.kind == "class"
    )


def _distinct(data, weight, members) -> tuple:
    """Rows that differ in class, prediction, weight or groups; counts."""
    columns = [data.y_true, data.y_pred]
    if weight is not None:
        columns.append(np.unique(weight, return_inverse=True)[1])
    if members.shape[1]:
        packed = np.packbits(members, axis=1)
        columns += list(packed.T)
    # Encodes column by column, which is faster than comparing rows.
    codes = np.zeros(len(data), dtype="int64")
    for column in columns:
        found = np.unique(column, return_inverse=True)[1]
        codes = codes * (int(found.max()) + 1) + found
        codes = np.unique(codes, return_inverse=True)[1]
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return (
        data.take(first),
        None if weight is None else weight[first],
        members[first],
        counts,
    )


def _draws(counts, n, settings) -> Iterator[np.ndarray]:
    """Chunks of resamples: how often each row is drawn, `(chunk, n)`.

    Rows that are equal are drawn together: drawing with replacement makes
    their counts multinomial.
    """
    rng = np.random.default_rng(settings.seed)
    step = max(CHUNK // n, 1)
    for start in range(0, settings.bootstrap, step):
        size = min(step, settings.bootstrap - start)
        if counts is not None:
            total = counts.sum()
            yield rng.multinomial(total, counts / total, size=size)
            continue
        yield np.stack(
            [
                np.bincount(rng.integers(0, n, n), minlength=n)
                for _ in range(size)
            ]
        )


def _resampled(metrics, data, weight, members, counts, settings) -> dict:
    """Name -> metric of all rows and groups, `(resamples, 1 + groups)`."""
    rows = [np.flatnonzero(inside) for inside in members.T]
    groups = [
        (r, data.take(r), None if weight is None else weight[r]) for r in rows
    ]
    # The first of all rows, then of each group: sorted once, not each time.
    shared = {
        name: [
            metric.prepared(part) if len(part) else None
            for part in (data, *(part for _, part, _ in groups))
        ]
        for name, metric in metrics.items()
    }
    found = {name: [] for name in metrics}
    for drawn in _draws(counts, len(data), settings):
        for name, metric in metrics.items():
            values = np.full((len(drawn), 1 + len(rows)), np.nan)
            values[:, 0] = metric.resampled(
                data, drawn, weight, shared[name][0]
            )
            for i, (inside, part, weights) in enumerate(groups, start=1):
                if len(inside):
                    values[:, i] = metric.resampled(
                        part, drawn[:, inside], weights, shared[name][i]
                    )
            found[name].append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _number(value) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ends(values, low, high) -> tuple[float, float] | None:
    """Quantiles of the defined values; None if there are too few."""
    known = values[np.isfinite(values)]
    if len(known) < max(DEFINED * len(values), 2):
        return None
    first, last = np.quantile(known, [low, high])
    return float(first), float(last)


def _around(ends, value):
    """Widens an interval that rounding would push off its value."""
    if ends is None or value is None:
        return None
    return min(ends[0], value), max(ends[1], value)


def _score(
    name, metric, values, drawn, group_names, counted, confidence
) -> MetricScore:
    tail = (1 - confidence) / 2
    sign = 1.0 if metric.higher_is_better else -1.0
    overall, groups = values[0], values[1:]
    score = {
        "name": name,
        "higher_is_better": metric.higher_is_better,
        "value": _number(overall),
        "groups": dict(zip(group_names, map(_number, groups), strict=True)),
        "group_intervals": dict.fromkeys(group_names),
    }
    if drawn is not None:
        score["interval"] = _around(
            _ends(drawn[:, 0], tail, 1 - tail), score["value"]
        )
        score["group_intervals"] = {
            group: _around(
                _ends(drawn[:, i], tail, 1 - tail), score["groups"][group]
            )
            for i, group in enumerate(group_names, start=1)
        }
    chosen = np.flatnonzero(np.asarray(counted) & np.isfinite(groups))
    if not len(chosen) or score["value"] is None:
        return MetricScore(**score)
    worst = chosen[np.argmin(sign * groups[chosen])]
    score["worst_group"] = group_names[worst]
    score["worst"] = float(groups[worst])
    score["gap"] = float(sign * (overall - groups[worst]))
    ratio = _quotient(groups[worst], overall, sign)
    score["ratio"] = _number(ratio)
    if drawn is None:
        return MetricScore(**score)
    parts = drawn[:, 1 + chosen]
    several = tail / len(chosen)
    lowest = _of_groups(sign * parts, tail, several)
    if lowest is not None:
        ends = sorted(sign * end for end in lowest)
        score["worst_interval"] = _around(ends, score["worst"])
    difference = _of_groups(sign * (parts - drawn[:, :1]), tail, several)
    if difference is not None:
        ends = (-difference[1], -difference[0])
        score["gap_interval"] = _around(ends, score["gap"])
    if score["ratio"] is not None:
        ratios = _quotient(parts, drawn[:, :1], sign)
        score["ratio_interval"] = _around(
            _of_groups(ratios, tail, several), score["ratio"]
        )
    return MetricScore(**score)


def _quotient(group, overall, sign) -> np.ndarray:
    """The worse over the better value; not a number unless both are above 0."""
    group, overall = np.broadcast_arrays(group, overall)
    above, below = (group, overall) if sign > 0 else (overall, group)
    return np.divide(
        above,
        below,
        out=np.full(group.shape, np.nan),
        where=(group > 0) & (overall > 0),
    )


def _of_groups(values, tail, several) -> tuple[float, float] | None:
    """The interval of a minimum over groups, `values` being `(B, groups)`."""
    lows, highs = [], []
    for column in values.T:
        ends = _ends(column, tail, 1 - several)
        if ends is None:
            return None
        lows.append(ends[0])
        highs.append(ends[1])
    return min(lows), min(highs)
