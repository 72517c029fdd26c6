"""Summary statistics: variation over seeds, and over rows."""

import functools
import warnings

import numpy as np
import pandas as pd
from scipy import stats

MEASURES = ("accuracy", "worst_group_accuracy", "gap", "weighted_f1")
# For these, less is better.
LOWER_IS_BETTER = {"gap"}
SUMMARY = (
    *("method", "split", "measure", "seeds", "mean", "std", "rows_low"),
    *("rows_high", "rank", "difference", "difference_std", "better", "pairs"),
    *("t_test", "wilcoxon"),
)
DISPLAY_NAMES = {"accuracy": "accuracy", "worst_group_accuracy": "worst group"}
WORST = "worst_group_"
# Decimals of metrics that are not shown in percent.
DIGITS = 3


def frame_of(runs) -> pd.DataFrame:
    """One line a run, split and measure."""
    lines = []
    for run in runs:
        for split in run.scores:
            for measure, value, interval, rises in _measures(split):
                if value is None:
                    continue
                low, high = interval or (np.nan, np.nan)
                lines.append(
                    {
                        "method": run.method,
                        "seed": run.seed,
                        "split": split.name,
                        "measure": measure,
                        "value": value,
                        "rows_low": low,
                        "rows_high": high,
                        "n": split.n,
                        "higher_is_better": rises,
                    }
                )
    columns = [
        *("method", "seed", "split", "measure"),
        *("value", "rows_low", "rows_high", "n", "higher_is_better"),
    ]
    return pd.DataFrame(lines, columns=columns)


def _measures(split) -> list[tuple]:
    """Name, value, interval and direction of all that was measured."""
    found = [
        (
            measure,
            getattr(split, measure),
            getattr(split, f"{measure}_interval", None),
            measure not in LOWER_IS_BETTER,
        )
        for measure in MEASURES
    ]
    for metric in split.metrics.values():
        name, rises = metric.name, metric.higher_is_better
        found += [
            (name, metric.value, metric.interval, rises),
            (f"{WORST}{name}", metric.worst, metric.worst_interval, rises),
            (f"{name}_gap", metric.gap, metric.gap_interval, False),
        ]
    return found


def summary_of(frame, methods) -> pd.DataFrame:
    """One line a method, split and measure; `methods` in their order.

    `std` and `difference_std` are over seeds (not a number for one seed);
    `rows_low` and `rows_high` are the ends of the intervals over
    rows, averaged over seeds: two kinds of chance, kept apart.
    """
    lines = []
    groups = dict(tuple(frame.groupby(["split", "measure"], sort=False)))
    for split in dict.fromkeys(frame["split"]):
        measures = [measure for name, measure in groups if name == split]
        for measure in _in_order(measures):
            part = groups[split, measure]
            rises = bool(part["higher_is_better"].iloc[0])
            wide = part.pivot(index="seed", columns="method", values="value")
            ranks = wide.rank(axis=1, ascending=not rises).mean()
            rows = part.groupby("method")[["rows_low", "rows_high"]].mean()
            for method in methods:
                if method not in wide:
                    continue
                values = wide[method].dropna()
                line = {
                    "method": method,
                    "split": split,
                    "measure": measure,
                    "seeds": len(values),
                    "mean": values.mean(),
                    "std": values.std(),
                    "rows_low": rows.loc[method, "rows_low"],
                    "rows_high": rows.loc[method, "rows_high"],
                    "rank": ranks[method],
                }
                if methods[0] in wide:
                    pairs = (wide[method] - wide[methods[0]]).dropna()
                    better = pairs > 0 if rises else pairs < 0
                    t_test, wilcoxon = paired_tests(pairs.to_numpy())
                    line |= {
                        "difference": pairs.mean(),
                        "difference_std": pairs.std(),
                        "better": int(better.sum()),
                        "pairs": len(pairs),
                        "t_test": t_test,
                        "wilcoxon": wilcoxon,
                    }
                lines.append(line)
    return pd.DataFrame(lines, columns=None if lines else SUMMARY)


def _in_order(measures) -> list[str]:
    """The measures of a split: accuracies first, then metrics."""
    requested = list(dict.fromkeys(measures))
    known = [measure for measure in MEASURES if measure in requested]
    return known + [measure for measure in requested if measure not in MEASURES]


def paired_tests(differences: np.ndarray) -> tuple[float, float]:
    """P-values of paired differences over seeds, of both sides.

    Args:
        differences: float array of shape `(seeds,)`.

    Returns:
        Those of Student's t-test and of Wilcoxon's signed-rank test; not a
        number where there is one seed or all differences are equal.
    """
    return _paired_tests(tuple(differences))


# Tables, pictures and reports of one comparison ask for the same.
@functools.lru_cache(4096)
def _paired_tests(differences: tuple[float, ...]) -> tuple[float, float]:
    count = len(differences)
    if count < 2 or np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return np.nan, np.nan
    with warnings.catch_warnings():
        # With ties the test is an approximation, and warns of it.
        warnings.simplefilter("ignore")
        return (
            float(stats.ttest_1samp(differences, 0.0).pvalue),
            float(stats.wilcoxon(differences).pvalue),
        )


def main_columns(summary) -> list[tuple[str, str]]:
    """The columns of the table: all rows, and worst group where there is."""
    found = dict.fromkeys(zip(summary["split"], summary["measure"]))
    return [pair for pair in found if is_main_measure(pair[1])]


def is_main_measure(measure: str) -> bool:
    return measure in DISPLAY_NAMES or not (
        measure in MEASURES or measure.endswith("_gap")
    )


def is_percent(measure: str) -> bool:
    """Whether a measure is shown in percent."""
    return measure in MEASURES


def spelled(measure: str) -> str:
    """What a measure is called in tables."""
    if measure.startswith(WORST) and measure not in DISPLAY_NAMES:
        return f"{measure.removeprefix(WORST)} worst group"
    return DISPLAY_NAMES.get(measure, measure)


def shown(measure: str, value: float, sign: bool = False) -> str:
    """A value of a measure: percent with one digit, or three digits."""
    plus = "+" if sign else ""
    if is_percent(measure):
        return f"{100 * value:{plus}.1f}"
    return f"{value:{plus}.{DIGITS}f}"


def mean_ranks(summary, methods) -> pd.Series:
    """Rank over splits: by the worst group, or all rows without groups.

    It is that of the accuracy, or of the first metric where there is none.
    """
    measures = {}
    for split, measure in main_columns(summary):
        measures.setdefault(split, []).append(measure)
    chosen = {}
    for split, names in measures.items():
        first = names[0]
        worst = f"{WORST}{first}"
        chosen[split] = worst if worst in names else first
    keep = [
        chosen.get(split) == measure
        for split, measure in zip(summary["split"], summary["measure"])
    ]
    ranks = summary[np.array(keep, dtype=bool)].groupby("method")["rank"].mean()
    return ranks.reindex([m for m in methods if m in ranks.index])
