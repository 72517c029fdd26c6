"""Metrics of generated answers, from sums over rows."""

import collections
import re
import string

import numpy as np

from keras_debias.metrics.metric_data import MetricData

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Without case, punctuation, articles and repeated blanks."""
    text = ARTICLES.sub(" ", text.lower().translate(PUNCTUATION))
    return " ".join(text.split())


def exact_columns(data: MetricData) -> np.ndarray:
    """Whether answer and reference are equal, and ones: `(n, 2)`."""
    hits = [
        normalized(a) == normalized(b)
        for a, b in zip(data.y_true, data.y_pred, strict=True)
    ]
    return np.stack([np.asarray(hits, "float64"), np.ones(len(data))], axis=1)


def token_f1(reference: str, answer: str) -> float:
    """F1 of the words of an answer; 1 where both have none."""
    one, other = normalized(reference).split(), normalized(answer).split()
    if not one or not other:
        return float(one == other)
    common = collections.Counter(one) & collections.Counter(other)
    return 2 * sum(common.values()) / (len(one) + len(other))


def f1_columns(data: MetricData) -> np.ndarray:
    """The F1 of each answer, and ones: `(n, 2)`."""
    found = [
        token_f1(a, b) for a, b in zip(data.y_true, data.y_pred, strict=True)
    ]
    return np.stack([np.asarray(found), np.ones(len(data))], axis=1)


def likelihood_columns(data: MetricData) -> np.ndarray:
    """Negative log-likelihood of each reference, and its tokens: `(n, 2)`."""
    return data.probabilities
