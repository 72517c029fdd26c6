"""From runs to a table: spread over seeds apart from that over rows."""

import numpy as np
import pandas as pd

MEASURES = ("accuracy", "worst_group_accuracy", "gap", "weighted_f1")
# For these, less is better.
FALLING = {"gap"}
SUMMARY = (
    *("method", "split", "measure", "seeds", "mean", "std", "rows_low"),
    *("rows_high", "rank", "difference", "difference_std", "better", "pairs"),
)


def frame_of(runs) -> pd.DataFrame:
    """One line a run, split and measure."""
    lines = []
    for run in runs:
        for split in run.scores:
            for measure in MEASURES:
                value = getattr(split, measure)
                if value is None:
                    continue
                low, high = getattr(split, f"{measure}_interval", None) or (
                    np.nan,
                    np.nan,
                )
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
                    }
                )
    columns = [
        *("method", "seed", "split", "measure"),
        *("value", "rows_low", "rows_high", "n"),
    ]
    return pd.DataFrame(lines, columns=columns)


def summary_of(frame, methods) -> pd.DataFrame:
    """One line a method, split and measure; `methods` in their order.

    `std` and `difference_std` are over seeds (not a number for one seed);
    `rows_low` and `rows_high` are the ends of the intervals over
    rows, averaged over seeds: two kinds of chance, kept apart.
    """
    lines = []
    splits = list(dict.fromkeys(frame["split"]))
    for split in splits:
        for measure in MEASURES:
            part = frame[
                (frame["split"] == split) & (frame["measure"] == measure)
            ]
            if part.empty:
                continue
            wide = part.pivot(index="seed", columns="method", values="value")
            ranks = wide.rank(axis=1, ascending=measure in FALLING)
            for method in methods:
                if method not in wide:
                    continue
                values = wide[method].dropna()
                own = part[part["method"] == method]
                line = {
                    "method": method,
                    "split": split,
                    "measure": measure,
                    "seeds": len(values),
                    "mean": values.mean(),
                    "std": values.std(),
                    "rows_low": own["rows_low"].mean(),
                    "rows_high": own["rows_high"].mean(),
                    "rank": ranks[method].mean(),
                }
                if methods[0] in wide:
                    pairs = (wide[method] - wide[methods[0]]).dropna()
                    better = pairs < 0 if measure in FALLING else pairs > 0
                    line |= {
                        "difference": pairs.mean(),
                        "difference_std": pairs.std(),
                        "better": int(better.sum()),
                        "pairs": len(pairs),
                    }
                lines.append(line)
    return pd.DataFrame(lines, columns=None if lines else SUMMARY)


def headline(summary) -> list[tuple[str, str]]:
    """The columns of the table: accuracy, and worst group where there is."""
    found = dict.fromkeys(zip(summary["split"], summary["measure"]))
    shown = ("accuracy", "worst_group_accuracy")
    return [pair for pair in found if pair[1] in shown]


def mean_ranks(summary, methods) -> pd.Series:
    """Rank over splits: by the worst group, or accuracy without groups."""
    chosen = {}
    for split, measure in headline(summary):
        # The worst group comes after the accuracy and replaces it.
        chosen[split] = measure
    keep = [
        chosen.get(split) == measure
        for split, measure in zip(summary["split"], summary["measure"])
    ]
    ranks = summary[np.array(keep, dtype=bool)].groupby("method")["rank"].mean()
    return ranks.reindex([m for m in methods if m in ranks.index])
