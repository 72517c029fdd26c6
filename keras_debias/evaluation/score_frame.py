"""Scores of one split, from its predictions alone."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_debias.evaluation.diagnosis import diagnose
from keras_debias.evaluation.intervals import accuracy_intervals
from keras_debias.evaluation.intervals import f1_interval
from keras_debias.evaluation.intervals import weighted_f1
from keras_debias.evaluation.measures import measure
from keras_debias.evaluation.scores import GroupScore
from keras_debias.evaluation.scores import SplitScore
from keras_debias.metrics.group_accuracy import weighted_group_accuracy
from keras_debias.metrics.group_accuracy import worst_group
from keras_debias.metrics.metric import Metric
from keras_debias.metrics.metric_data import MetricData

MIN_GROUP_SIZE = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """How scores are computed; see `evaluate`."""

    min_group_size: int = MIN_GROUP_SIZE
    bootstrap: int = 0
    confidence: float = 0.95
    seed: int = 0


def counted_groups(sizes: np.ndarray, min_group_size: int) -> np.ndarray:
    """Returns which groups can be the worst.

    These are the groups of at least `min_group_size` rows; if there are none,
    all groups with rows.
    """
    large = sizes >= min_group_size
    return large if large.any() else sizes > 0


def score_frame(
    frame: pd.DataFrame,
    group_names: Sequence[str],
    members: np.ndarray | None,
    settings: Settings,
    data: MetricData | None = None,
    metrics: Mapping[str, Metric] | None = None,
    shares: Mapping[str, float] | None = None,
) -> SplitScore:
    """Scores the predictions of one split.

    Args:
        frame: `pandas.DataFrame` with the columns `split`, `label` and
            `prediction`, and `weight` where rows have weights.
        group_names: sequence of strings, the names of the groups.
        members: bool array of shape `(n, groups)`, or None.
        settings: `Settings`.
        data: `MetricData`, the same labels and predictions as indices, with
            what else metrics need; or None, without metrics.
        metrics: dict from name to `Metric`, or None.
        shares: dict from group to its share of the training data, or None.

    Returns:
        `SplitScore`.
    """
    labels = frame["label"].to_numpy(dtype=object)
    predictions = frame["prediction"].to_numpy(dtype=object)
    correct = labels == predictions
    weight = None
    if "weight" in frame and frame["weight"].notna().all():
        weight = frame["weight"].to_numpy(dtype="float64")
    several = None
    if data is not None and data.kind == "multi_label":
        several = data.y_true, data.y_pred
    if several is None:
        # Sorted names, so that the order of the classes does not count.
        codes, _ = pd.factorize(np.concatenate([labels, predictions]), True)
        several = codes[: len(labels)], codes[len(labels) :]
    f1 = weighted_f1(*several, weight)
    counted = sizes = None
    if members is not None:
        sizes = members.sum(axis=0)
        counted = counted_groups(sizes, settings.min_group_size)
    intervals = None
    if settings.bootstrap:
        intervals = accuracy_intervals(
            correct, members, counted, weight, settings.confidence
        )
    accuracy = float(np.average(correct, weights=weight))
    score = SplitScore(
        name=frame["split"].iloc[0],
        n=len(frame),
        accuracy=accuracy,
        weighted_f1=f1,
        accuracy_interval=None if intervals is None else intervals.accuracy,
        weighted_f1_interval=f1_interval(
            *several,
            weight,
            settings.bootstrap,
            settings.confidence,
            settings.seed,
        ),
        kind="class" if data is None else data.kind,
        metrics=measure(
            metrics or {},
            data,
            weight,
            group_names,
            members,
            counted,
            settings,
        ),
    )
    if members is not None:
        score = _with_groups(
            score, group_names, members, correct, weight, counted, intervals
        )
        if shares is not None and set(shares) == set(group_names):
            weighted = weighted_group_accuracy(
                [
                    np.nan if g.accuracy is None else g.accuracy
                    for g in score.groups
                ],
                [shares[group] for group in group_names],
            )
            score = dataclasses.replace(
                score,
                # NaN: the training data has no row of these groups.
                train_weighted_accuracy=None
                if np.isnan(weighted)
                else weighted,
            )
    notes = counting_notes(score, settings, counted, sizes, weight)
    notes += diagnose(labels, predictions, group_names, members, weight, score)
    return dataclasses.replace(score, notes=tuple(notes))


def _with_groups(
    score, names, members, correct, weight, counted, intervals
) -> SplitScore:
    weights = np.ones(len(correct)) if weight is None else weight
    totals = weights @ members
    hits = (weights * correct) @ members
    accuracies = np.full(len(names), np.nan)
    np.divide(hits, totals, out=accuracies, where=totals > 0)
    groups = tuple(
        GroupScore(
            name,
            int(members[:, i].sum()),
            None if np.isnan(accuracies[i]) else float(accuracies[i]),
            intervals and intervals.groups[i],
        )
        for i, name in enumerate(names)
    )
    worst = worst_group(np.where(counted, accuracies, np.nan))
    if worst is None:
        return dataclasses.replace(score, groups=groups)
    lowest = float(accuracies[worst])
    return dataclasses.replace(
        score,
        groups=groups,
        worst_group=names[worst],
        worst_group_accuracy=lowest,
        gap=score.accuracy - lowest,
        worst_group_accuracy_interval=intervals
        and intervals.worst_group_accuracy,
        gap_interval=intervals and intervals.gap,
    )


def counting_notes(score, settings, counted, sizes, weight) -> list[str]:
    """How rows and groups were counted, in words."""
    notes = []
    if weight is not None and np.ptp(weight) > 0:
        notes.append("Rows count by their sample weights.")
    if counted is None:
        return notes
    left_out = [
        g.name
        for g, c, n in zip(score.groups, counted, sizes, strict=True)
        if n and not c
    ]
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(sizes)} groups have fewer than "
            f"{settings.min_group_size} rows and cannot be the worst: "
            f"{'; '.join(left_out[:5])}"
            f"{' ...' if len(left_out) > 5 else ''}."
        )
    elif sizes[counted].max(initial=0) < settings.min_group_size:
        notes.append(
            f"No group has {settings.min_group_size} rows: the worst group "
            "means little."
        )
    return notes
