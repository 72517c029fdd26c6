"""Tests of all features of an extraction against labels or errors."""

import numpy as np
from scipy import sparse

from keras_debias.auditing.association import associations
from keras_debias.auditing.association import false_discovery_adjusted
from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.auditing.excess_errors import harms
from keras_debias.auditing.finding import Finding
from keras_debias.utils.progress import Progress

# Features that are tested at a time, for a steady progress bar.
CHUNK = 10_000


def label_findings(extraction, labels, names, confused, min_difference, level):
    """Tests each feature against each label.

    Args:
        extraction: `Extraction` or `GroupFeatures`.
        labels: sparse matrix of shape `(n, labels)` of zeros and ones.
        names: list of strings, the names of the labels.
        confused: `Confusions` of a model's predictions, or `None`.
        min_difference: float, see `audit`.
        level: float, the false discovery rate.

    Returns:
        Tuple of `Finding`, the strongest first, and the number of tests.
    """
    rows = labels.shape[0]
    ones = sparse.csr_matrix(np.ones((rows, 1)))
    counts = extraction.count(sparse.hstack([labels, ones], format="csr"))
    found = _tested(
        counts[:, :-1],
        counts[:, -1:],
        np.asarray(labels.sum(axis=0)).reshape(1, -1),
        rows,
    )
    found["adjusted_p_value"] = false_discovery_adjusted(found["p_value"])
    reported = (found["adjusted_p_value"] <= level) & (
        found["share"] - found["prior"] >= min_difference
    )
    order = _strongest(found["phi"], reported)
    harm = [None] * len(order)
    if confused is not None and order:
        used, at = np.unique([f for f, _ in order], return_inverse=True)
        pairs = extraction.count(confused.indicators, used)
        harm = harms(pairs[at], [label for _, label in order], confused, level)
    features = extraction.features
    findings = tuple(
        Finding(
            feature=features[at[0]],
            label=names[at[1]],
            harm=each,
            **{
                key: int(values[at]) if key == "n" else float(values[at])
                for key, values in found.items()
            },
        )
        for at, each in zip(order, harm, strict=True)
    )
    return findings, len(features) * labels.shape[1]


def error_slices(
    extraction, classes, wrong, names, min_count, min_difference, level
):
    """Tests each feature against the errors of each class.

    Args:
        extraction: `Extraction` or `GroupFeatures`.
        classes: sparse matrix of shape `(n, classes)` of zeros and ones.
        wrong: sparse matrix of the same shape: the rows of each class that
            are predicted wrongly.
        names: list of strings, the names of the classes.
        min_count: int. Within a class, features of fewer rows are not
            tested.
        min_difference: float, see `audit`.
        level: float, the false discovery rate.

    Returns:
        Tuple of `ErrorSlice`, the strongest first, and the number of tests.
    """
    counts = extraction.count(sparse.hstack([classes, wrong], format="csr"))
    size = classes.shape[1]
    rows, errors = counts[:, :size], counts[:, size:]
    all_rows = np.asarray(classes.sum(axis=0)).reshape(1, -1)
    all_errors = np.asarray(wrong.sum(axis=0)).reshape(1, -1)
    found = _tested(errors, rows, all_errors, all_rows)
    # What no row, or every row of a class has cannot go with its errors.
    tested = (rows >= min_count) & (rows < all_rows) & (all_errors > 0)
    adjusted = np.ones(rows.shape)
    adjusted[tested] = false_discovery_adjusted(found["p_value"][tested])
    reported = (
        tested
        & (adjusted <= level)
        & (found["share"] - found["prior"] >= min_difference)
    )
    features = extraction.features
    slices = tuple(
        ErrorSlice(
            feature=features[at[0]],
            label=names[at[1]],
            n=int(rows[at]),
            errors=int(errors[at]),
            error_rate_with=float(found["share"][at]),
            error_rate_without=float(
                (all_errors[0, at[1]] - errors[at])
                / (all_rows[0, at[1]] - rows[at])
            ),
            adjusted_p_value=float(adjusted[at]),
            **{
                key: float(found[key][at])
                for key in ("z", "p_value", "odds_ratio", "phi")
            },
        )
        for at in _strongest(found["phi"], reported)
    )
    return slices, int(tested.sum())


def _tested(both, with_feature, with_label, n):
    """`associations` of many features, in chunks."""
    parts = []
    progress = Progress("Testing features", len(both), "feature")
    for at in range(0, max(len(both), 1), CHUNK):
        part = slice(at, at + CHUNK)
        parts.append(
            associations(both[part], with_feature[part], with_label, n)
        )
        progress.add(len(both[part]))
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def _strongest(phi, reported):
    """Positions of what is reported, in descending order of `phi`.

    `phi` weighs how telling a feature is against how many rows have it.
    """
    return sorted(zip(*np.nonzero(reported)), key=lambda at: -phi[at])
