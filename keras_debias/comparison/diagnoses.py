"""Conclusions of a comparison, in words."""

import numpy as np
from scipy import stats

from keras_debias.comparison.statistics import main_columns
from keras_debias.comparison.statistics import shown
from keras_debias.comparison.statistics import spelled

LEVEL = 0.95


def _runs(comparison, method) -> list:
    return [run for run in comparison.runs if run.method == method]


def has_learned(comparison, method) -> bool:
    """Whether more than half of the runs have learned, or it is unknown."""
    said = [
        r.learned for r in _runs(comparison, method) if r.learned is not None
    ]
    return not said or 2 * sum(said) > len(said)


def constant(comparison, method, criterion: str) -> float:
    """The mean of a criterion of the best constant answer, -inf if unknown."""
    values = [
        run.constant[criterion]
        for run in _runs(comparison, method)
        if criterion in run.constant
    ]
    return float(np.mean(values)) if values else -np.inf


def sentences(comparison) -> list[str]:
    """Notes on runs, methods that have not learned, differences by chance."""
    found = []
    for method in comparison.methods:
        runs = _runs(comparison, method)
        if runs and not has_learned(comparison, method):
            found.append(
                f"{method} has not learned what the validation data asks: it "
                "is no better than one answer for all rows."
            )
        found += _notes(method, runs)
    return found + _by_chance(comparison)


def _notes(method, runs) -> list[str]:
    """The notes on the scores; those of several seeds once."""
    seeds = {}
    for run in runs:
        for split in run.scores:
            for note in split.notes:
                # The figures in a note differ from seed to seed.
                key = split.name, "".join(c for c in note if not c.isdigit())
                seeds.setdefault(key, []).append(note)
    return [
        f"{method}, {split}, {len(notes)} of {len(runs)} seeds: {notes[0]}"
        for (split, _), notes in seeds.items()
    ]


def difference_interval(differences: np.ndarray) -> tuple[float, float] | None:
    """Student's interval of a mean paired difference; None for one seed."""
    count = len(differences)
    if count < 2:
        return None
    error = differences.std(ddof=1) / np.sqrt(count)
    reach = stats.t.ppf((1 + LEVEL) / 2, count - 1) * error
    return differences.mean() - reach, differences.mean() + reach


def _by_chance(comparison) -> list[str]:
    """Where methods cannot be told from the first one."""
    frame, methods = comparison.frame, comparison.methods
    found = []
    columns = {
        (split, measure): frame[
            (frame["split"] == split) & (frame["measure"] == measure)
        ].pivot(index="seed", columns="method", values="value")
        for split, measure in main_columns(comparison.summary())
    }
    for method in methods[1:]:
        alike, seeds = [], 0
        for (split, measure), part in columns.items():
            if not {method, methods[0]} <= set(part):
                continue
            pairs = (part[method] - part[methods[0]]).dropna().to_numpy()
            if not len(pairs):
                continue
            seeds = max(seeds, len(pairs))
            interval = difference_interval(pairs)
            place = f"{split} {spelled(measure)}"
            if interval is None:
                alike.append(place)
            elif interval[0] <= 0 <= interval[1]:
                low, high = (shown(measure, end, True) for end in interval)
                alike.append(f"{place} [{low}, {high}]")
        if not alike:
            continue
        why = (
            "there is one seed only"
            if seeds == 1
            else f"{100 * LEVEL:g} % intervals of the paired difference over "
            f"{seeds} seeds hold 0"
        )
        found.append(
            f"{method} cannot be told from {methods[0]} on "
            f"{', '.join(alike)}: {why}."
        )
    return found
