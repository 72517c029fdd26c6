"""Metrics of classes and of several labels, from sums over rows."""

import dataclasses

import numpy as np

from keras_debias.metrics.metric_data import MetricData

BINS = 15


def class_counts(data: MetricData) -> np.ndarray:
    """Columns of hits, predictions and labels of each class, and of exact hits.

    Returns:
        A float array of shape `(n, 3 * classes + 2)`; the last columns are rows
        that are wholly right, and ones.
    """
    if data.kind == "multi_label":
        truth = data.y_true.astype("float64")
        said = data.y_pred.astype("float64")
    else:
        classes = np.eye(len(data.names))
        truth, said = classes[data.y_true], classes[data.y_pred]
    exact = (truth == said).all(axis=1).astype("float64")
    return np.concatenate(
        [truth * said, said, truth, exact[:, None], np.ones((len(data), 1))],
        axis=1,
    )


def highest_counts(data: MetricData) -> np.ndarray:
    """The same columns where the highest score alone is predicted."""
    highest = np.zeros_like(data.y_true)
    highest[np.arange(len(data)), data.probabilities.argmax(axis=1)] = True
    return class_counts(dataclasses.replace(data, y_pred=highest))


def hit(sums, data):
    """The share of rows whose top label is one of their labels."""
    hits, _, _ = _parts(sums)
    return _ratio(hits.sum(axis=-1), sums[..., -1])


def _parts(sums) -> tuple:
    """Hits, predictions and labels, `(..., classes)` each."""
    return tuple(np.split(sums[..., :-2], 3, axis=-1))


def _ratio(numerator, denominator):
    """A quotient; NaN where it is undefined."""
    return np.divide(
        numerator,
        denominator,
        out=np.full(np.broadcast(numerator, denominator).shape, np.nan),
        where=denominator > 0,
    )


def _mean(values, weights):
    """The mean over classes of values that are numbers."""
    known = np.isfinite(values)
    weights = np.where(known, weights, 0.0)
    total = (np.where(known, values, 0.0) * weights).sum(axis=-1)
    return _ratio(total, weights.sum(axis=-1))


def accuracy(sums, data):
    return _ratio(sums[..., -2], sums[..., -1])


def balanced_accuracy(sums, data):
    hits, _, true = _parts(sums)
    return _mean(_ratio(hits, true), np.ones(hits.shape[-1]))


def _f1s(sums):
    hits, said, true = _parts(sums)
    return _ratio(2 * hits, said + true), true


def weighted_f1(sums, data):
    scores, true = _f1s(sums)
    return _mean(scores, true)


def macro_f1(sums, data):
    scores, _ = _f1s(sums)
    if data.kind == "multi_label":
        # A label that never occurs and is never predicted has F1 0.
        scores = np.where(np.isfinite(scores), scores, 0.0)
    return _mean(scores, np.ones(scores.shape[-1]))


def micro_f1(sums, data):
    hits, said, true = (part.sum(axis=-1) for part in _parts(sums))
    return _ratio(2 * hits, said + true)


def binary(function, positive):
    """A metric of one class against all others, `positive` by name."""

    def compute(sums, data):
        i = position(data, positive)
        hits, said, true = (part[..., i] for part in _parts(sums))
        return function(hits, said, true, sums[..., -1])

    return compute


def position(data, positive) -> int:
    """The index of the positive class."""
    if positive is None:
        if len(data.names) != 2:
            raise ValueError(
                "Expected two classes, or the name of the positive one. "
                f"Received: {len(data.names)} classes, {data.names[:10]}. Use "
                "`kd.metrics.get(name, positive=...)`, or a metric of all "
                "classes such as 'macro_f1'."
            )
        return 1
    if positive not in data.names:
        raise ValueError(
            f"Expected `positive` to be one of the classes {data.names[:10]}. "
            f"Received: positive={positive!r}"
        )
    return data.names.index(positive)


def f1_of(hits, said, true, total):
    return _ratio(2 * hits, said + true)


def precision_of(hits, said, true, total):
    # 0, as in scikit-learn, if the class occurs and is never predicted.
    found = _ratio(hits, said)
    return np.where((said == 0) & (true > 0), 0.0, found)


def recall_of(hits, said, true, total):
    return _ratio(hits, true)


def false_positive_rate_of(hits, said, true, total):
    return _ratio(said - hits, total - true)


def false_negative_rate_of(hits, said, true, total):
    return _ratio(true - hits, true)


def matthews(sums, data):
    """The correlation coefficient of Matthews, for any number of classes."""
    hits, said, true = _parts(sums)
    total, right = sums[..., -1], hits.sum(axis=-1)
    covariance = right * total - (said * true).sum(axis=-1)
    spread_said = total**2 - (said**2).sum(axis=-1)
    spread_true = total**2 - (true**2).sum(axis=-1)
    # With a single class, the spread is zero up to rounding.
    low = 1e-12 * total**2
    found = _ratio(
        covariance, np.sqrt(np.maximum(spread_said * spread_true, 0.0))
    )
    found = np.where(spread_said <= low, 0.0, found)
    return np.where(spread_true <= low, np.nan, found)


def calibration_columns(data: MetricData) -> np.ndarray:
    """Confidence minus correctness, one column for each confidence bin."""
    confidence = data.probabilities.max(axis=1)
    right = data.y_true == data.probabilities.argmax(axis=1)
    bins = np.ceil(confidence * BINS).astype(int) - 1
    bins = np.clip(bins, 0, BINS - 1)
    columns = np.eye(BINS)[bins] * (confidence - right)[:, None]
    return np.concatenate([columns, np.ones((len(data), 1))], axis=1)


def expected_calibration_error(sums, data):
    return _ratio(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])


def log_loss_columns(data: MetricData) -> np.ndarray:
    """Negative log-likelihoods of the labels, and ones."""
    tiny = np.finfo("float64").eps
    chances = np.clip(data.probabilities, tiny, 1 - tiny)
    if data.kind == "multi_label":
        losses = -np.where(data.y_true, np.log(chances), np.log1p(-chances))
        losses = losses.mean(axis=1)
    else:
        losses = -np.log(chances[np.arange(len(data)), data.y_true])
    return np.stack([losses, np.ones(len(data))], axis=1)


def mean_of_rows(sums, data):
    return _ratio(sums[..., 0], sums[..., 1])
