"""Scores as one line a split, metric and part."""

import pandas as pd

COLUMNS = ("split", "metric", "part", "group", "value", "low", "high", "n")
NOTHING = float("nan")


def frame_of(scores) -> pd.DataFrame:
    """One line a split, metric and part; see `Scores.to_frame`."""
    lines = []
    for split in scores:
        lines += _of_accuracy(split)
        for metric in split.metrics.values():
            lines += _of_metric(split, metric)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _line(split, metric, part, value, interval, n=None, group=None) -> dict:
    low, high = (NOTHING, NOTHING) if interval is None else interval
    return {
        "split": split.name,
        "metric": metric,
        "part": part,
        "group": group,
        "value": NOTHING if value is None else value,
        "low": low,
        "high": high,
        "n": split.n if n is None else n,
    }


def _of_accuracy(split) -> list[dict]:
    if split.accuracy is None:
        return []
    name = "accuracy"
    lines = [
        _line(split, name, "all rows", split.accuracy, split.accuracy_interval),
        _line(
            split,
            "weighted_f1",
            "all rows",
            split.weighted_f1,
            split.weighted_f1_interval,
        ),
    ]
    # Metrics that were requested by name have all parts, and come below.
    lines = [line for line in lines if line["metric"] not in split.metrics]
    if name in split.metrics:
        return lines
    lines += [
        _line(split, name, "group", g.accuracy, g.interval, g.n, g.name)
        for g in split.groups
    ]
    if split.worst_group is not None:
        lines += [
            _line(
                split,
                name,
                "worst group",
                split.worst_group_accuracy,
                split.worst_group_accuracy_interval,
                group=split.worst_group,
            ),
            _line(split, name, "gap", split.gap, split.gap_interval),
        ]
    return lines


def _of_metric(split, metric) -> list[dict]:
    name = metric.name
    sizes = {group.name: group.n for group in split.groups}
    lines = [_line(split, name, "all rows", metric.value, metric.interval)]
    lines += [
        _line(
            split,
            name,
            "group",
            value,
            metric.group_intervals[group],
            sizes.get(group),
            group,
        )
        for group, value in metric.groups.items()
    ]
    if metric.worst_group is not None:
        lines += [
            _line(
                split,
                name,
                "worst group",
                metric.worst,
                metric.worst_interval,
                sizes.get(metric.worst_group),
                metric.worst_group,
            ),
            _line(split, name, "gap", metric.gap, metric.gap_interval),
            _line(split, name, "ratio", metric.ratio, metric.ratio_interval),
        ]
    return lines
