"""Metrics of the order of scores: areas under curves, rank correlation."""

import numpy as np

from keras_debias.metrics.classification import position
from keras_debias.metrics.metric_data import MetricData


def ordered_scores(positive):
    """A function of data to truths and scores, in classes of equal scores.

    It returns a list with one pair for each class that is looked at: two
    classes are one question, of the second one.
    """

    def prepare(data: MetricData) -> list:
        truth = data.y_true
        if data.kind != "multi_label":
            truth = np.eye(len(data.names), dtype=bool)[truth]
        chosen = range(len(data.names))
        if positive is not None or (
            data.kind == "class" and len(data.names) == 2
        ):
            chosen = [position(data, positive)]
        return [
            (
                truth[:, i].astype("float64"),
                np.unique(data.probabilities[:, i], return_inverse=True)[1],
            )
            for i in chosen
        ]

    return prepare


def _mean_over_classes(function):
    def compute(prepared, weight) -> float:
        values = [function(*pair, weight) for pair in prepared]
        values = [value for value in values if np.isfinite(value)]
        return float(np.mean(values)) if values else np.nan

    return compute


def _by_score(truth, ranks, weight) -> tuple:
    positive = np.bincount(ranks, weights=weight * truth)
    negative = np.bincount(ranks, weights=weight * (1 - truth))
    return positive, negative


@_mean_over_classes
def area_under_roc(truth, ranks, weight):
    positive, negative = _by_score(truth, ranks, weight)
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return np.nan
    below = np.cumsum(negative) - negative / 2  # ties count half
    return (positive * below).sum() / pairs


@_mean_over_classes
def average_precision(truth, ranks, weight):
    positive, negative = _by_score(truth, ranks, weight)
    if not positive.sum():
        return np.nan
    hits = np.cumsum(positive[::-1])
    said = hits + np.cumsum(negative[::-1])
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    return (positive[::-1] * precision).sum() / hits[-1]


def both_ranks(data: MetricData) -> tuple:
    """Truths and predictions, in classes of equal values."""
    return tuple(
        np.unique(values, return_inverse=True)[1]
        for values in (data.y_true, data.y_pred)
    )


def spearman(prepared, weight) -> float:
    """The correlation of ranks; ties have the mean of their ranks."""
    ranks = []
    for codes in prepared:
        sizes = np.bincount(codes, weights=weight)
        ranks.append((np.cumsum(sizes) - sizes / 2)[codes])
    total = weight.sum()
    first, second = (r - (weight * r).sum() / total for r in ranks)
    spread = (weight * first**2).sum() * (weight * second**2).sum()
    if not spread > 0:
        return np.nan
    return (weight * first * second).sum() / np.sqrt(spread)
