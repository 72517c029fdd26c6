"""Scores of predicted numbers and of generated answers."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_debias.evaluation.measures import measure
from keras_debias.evaluation.score_frame import Settings
from keras_debias.evaluation.score_frame import counted_groups
from keras_debias.evaluation.score_frame import counting_notes
from keras_debias.evaluation.scores import GroupScore
from keras_debias.evaluation.scores import SplitScore
from keras_debias.metrics.metric import Metric
from keras_debias.metrics.metric_data import MetricData


def score_metrics(
    frame: pd.DataFrame,
    group_names: Sequence[str],
    members: np.ndarray | None,
    settings: Settings,
    data: MetricData,
    metrics: Mapping[str, Metric],
) -> SplitScore:
    """Scores the predictions of one split by metrics alone.

    Args:
        frame, group_names, members, settings: See `score_frame`.
        data: `MetricData` of the same rows.
        metrics: dict from name to `Metric`.

    Returns:
        `SplitScore` without accuracies.
    """
    weight = None
    if "weight" in frame and frame["weight"].notna().all():
        weight = frame["weight"].to_numpy(dtype="float64")
    counted = sizes = None
    groups = ()
    if members is not None:
        sizes = members.sum(axis=0)
        counted = counted_groups(sizes, settings.min_group_size)
        groups = tuple(
            GroupScore(name, int(n), None)
            for name, n in zip(group_names, sizes, strict=True)
        )
    score = SplitScore(
        name=frame["split"].iloc[0],
        n=len(frame),
        accuracy=None,
        weighted_f1=None,
        groups=groups,
        kind=data.kind,
        metrics=measure(
            metrics, data, weight, group_names, members, counted, settings
        ),
    )
    notes = counting_notes(score, settings, counted, sizes, weight)
    if data.kind == "regression":
        notes += _diagnosis(data, weight)
    return SplitScore(**{**vars(score), "notes": tuple(notes)})


def _diagnosis(data, weight) -> list[str]:
    """What is wrong with a model that predicts numbers."""
    mean = np.average(data.y_true, weights=weight)
    constant = np.average((data.y_true - mean) ** 2, weights=weight)
    own = np.average((data.y_true - data.y_pred) ** 2, weights=weight)
    if constant == 0 or own < constant:
        return []
    return [
        f"The root mean squared error, {np.sqrt(own):.3g}, is not below "
        f"{np.sqrt(constant):.3g}, that of always answering the mean: the "
        "model has not learned what this split asks."
    ]
