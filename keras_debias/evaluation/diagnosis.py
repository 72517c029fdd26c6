"""Warnings about a model's scores, in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics.cluster import contingency_matrix

# Below this an association is too weak to be called following.
LEAST_ASSOCIATION = 0.2
LEVEL = 0.01


def diagnose(
    labels: np.ndarray,
    predictions: np.ndarray,
    group_names: Sequence[str],
    members: np.ndarray | None,
    weight: np.ndarray | None,
    score,
) -> list[str]:
    """Returns one sentence for each problem that scores alone do not show.

    Args:
        labels, predictions: Arrays of names, of shape `(n,)`.
        group_names: sequence of strings.
        members: bool array of shape `(n, groups)`, or None.
        weight: float array of shape `(n,)`, or None.
        score: `SplitScore`.

    Returns:
        List of strings; empty if nothing is wrong.
    """
    shares = class_shares(labels, weight)
    said = set(predictions)
    if len(shares) < 2:
        return []
    if len(said) == 1:
        return [
            f"The model answers {_name(predictions[0])} for every row: it "
            "tells nothing apart."
        ]
    notes = []
    name, majority = max(shares.items(), key=lambda item: item[1])
    low = score.accuracy_interval and score.accuracy_interval[0]
    if score.accuracy <= majority:
        notes.append(
            f"The accuracy, {100 * score.accuracy:.1f} %, is not above "
            f"{100 * majority:.1f} %, that of always answering "
            f"{_name(name)}: the model has not learned what this split asks."
        )
    elif low is not None and low <= majority:
        notes.append(
            "The accuracy cannot be told from "
            f"{100 * majority:.1f} %, that of always answering {_name(name)}: "
            "its interval holds it."
        )
    if members is not None:
        notes += _followed(labels, predictions, group_names, members)
    return notes


def _name(label) -> str:
    return repr(label) if label else "no label"


def class_shares(labels: np.ndarray, weight=None) -> dict[str, float]:
    """Returns the (weighted) share of each label."""
    codes, names = pd.factorize(np.asarray(labels, dtype=object))
    counts = np.bincount(codes, weights=weight)
    return dict(zip(names, (counts / counts.sum()).tolist(), strict=True))


def _followed(labels, predictions, names, members) -> list[str]:
    """Whether predictions go with the groups' attribute, not the label."""
    if not (members.sum(axis=1) == 1).all():
        return []
    # "label=no, cue=yes" is the attribute "cue=yes".
    starts = sorted({f"label={x}" for x in labels}, key=len, reverse=True)
    attributes = []
    for name in names:
        start = next((s for s in starts if name.startswith(s)), "")
        attributes.append(name[len(start) :].removeprefix(", "))
    attribute = np.array(attributes, dtype=object)[members.argmax(axis=1)]
    if len(set(attribute)) < 2:
        return []
    if (_counts(attribute, labels) > 0).sum(axis=1).max() == 1:
        return []  # the attribute holds the label, so it must go along
    with_attribute, p_value = _association(predictions, attribute)
    with_label, _ = _association(predictions, labels)
    if (
        p_value > LEVEL
        or with_attribute < LEAST_ASSOCIATION
        or with_attribute <= with_label
    ):
        return []
    columns = sorted({value.split("=", 1)[0] for value in attribute})
    return [
        f"Predictions go with the groups ({', '.join(columns)}) more than "
        f"with the label (Cramér's V {with_attribute:.2f} against "
        f"{with_label:.2f}): the model follows them."
    ]


def _association(one, other) -> tuple[float, float]:
    """Cramér's V of two columns, and the p-value of independence."""
    table = _counts(one, other)
    if min(table.shape) < 2:
        return 0.0, 1.0
    found = stats.chi2_contingency(table, correction=False)
    freedom = min(table.shape) - 1
    v = np.sqrt(found.statistic / (table.sum() * freedom))
    return float(v), float(found.pvalue)


def _counts(one, other) -> np.ndarray:
    """Rows of each pair of values; those without a value are left out."""
    first, second = (
        pd.factorize(np.asarray(values, dtype=object))[0]
        for values in (one, other)
    )
    known = (first >= 0) & (second >= 0)
    return contingency_matrix(first[known], second[known])
