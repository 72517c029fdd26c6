"""Metrics of the order of scores: areas under curves, rank correlation."""

import numpy as np

from keras_debias.metrics.classification import position
from keras_debias.metrics.metric_data import MetricData


class Ordered:
    """Positive and negative rows, each from the lowest score to the highest.

    Scores are sorted once; resamples then need running sums of weights only,
    looked up at the places of the positive rows among the negative ones.

    Args:
        truth: bool array `(n,)`.
        scores: float array `(n,)`.
    """

    def __init__(self, truth, scores):
        order = np.argsort(scores, kind="stable")
        positive = order[truth[order]]
        negative = order[~truth[order]]
        self.rows = np.concatenate([positive, negative])
        self.count = len(positive)
        scores, below = scores[positive], scores[negative]
        # How many negative rows are lower, and how many not higher.
        self.lower = np.searchsorted(below, scores, "left")
        self.upto = np.searchsorted(below, scores, "right")
        # The first positive row of the same score.
        self.first = np.searchsorted(scores, scores, "left")
        self.has_ties = bool((self.lower != self.upto).any())

    def sums(self, weight) -> tuple:
        """Weights of positive rows, and running sums before negative ones."""
        weight = weight[self.rows]
        negative = np.zeros(len(weight) - self.count + 1)
        np.cumsum(weight[self.count :], out=negative[1:])
        return weight[: self.count], negative


def ordered_scores(positive):
    """A function of data to a list of `Ordered`, one for each class.

    Two classes are one question, of the second one.
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
            Ordered(truth[:, i].astype(bool), data.probabilities[:, i])
            for i in chosen
        ]

    return prepare


def _mean_over_classes(function):
    def compute(prepared, weights) -> np.ndarray:
        # One row of weights at a time fits in the CPU cache.
        values = np.array(
            [[function(each, row) for row in weights] for each in prepared]
        )
        known = np.isfinite(values)
        total = np.where(known, values, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / known.sum(axis=0), np.nan)

    return compute


@_mean_over_classes
def area_under_roc(ordered, weight):
    positive, negative = ordered.sums(weight)
    pairs = positive.sum() * negative[-1]
    if not pairs:
        return np.nan
    below = negative[ordered.lower]
    if ordered.has_ties:  # they count half
        below = (below + negative[ordered.upto]) / 2
    return positive @ below / pairs


@_mean_over_classes
def average_precision(ordered, weight):
    positive, negative = ordered.sums(weight)
    total = positive.sum()
    if not total:
        return np.nan
    before = np.zeros(len(positive) + 1)
    np.cumsum(positive, out=before[1:])
    # Rows of equal score are predicted positive together.
    hits = total - before[ordered.first]
    said = hits + negative[-1] - negative[ordered.lower]
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    return positive @ precision / total


def both_ranks(data: MetricData) -> tuple:
    """Truths and predictions, in classes of equal values."""
    return tuple(
        np.unique(values, return_inverse=True)[1]
        for values in (data.y_true, data.y_pred)
    )


def spearman(prepared, weights) -> np.ndarray:
    """The correlation of ranks; ties have the mean of their ranks."""
    return np.array([_spearman(prepared, weight) for weight in weights])


def _spearman(prepared, weight) -> float:
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
