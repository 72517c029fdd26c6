import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_debias.data.arguments import check_floats
from keras_debias.data.arguments import check_int
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class LabelReport(ShortRepr):
    """F1, propensity and discrimination, overall and by label.

    Attributes:
        rows: int.
        accuracy: float. Share of rows whose highest score is a label of the
            row.
        weighted_f1: float. F1 of the labels, weighted by their rows.
        macro_f1: float. F1 of the labels, not weighted.
        exact_match: float. Share of rows whose predicted labels are those of
            the row; the accuracy, where rows have one label.
        argmax_weighted_f1: float. `weighted_f1` when only the label with the
            highest score is predicted.
        propensity: float. How unequal labels are: the standard deviation
            over the labels of their mean scores.
        discrimination: float. The mean over the labels of `contain - lack`.
        threshold: float or `None`. Above it, in log-probability among the
            labels, a label is predicted.
        contain: dict from label to its mean score in rows that have it.
        lack: dict from label to its mean score in rows that do not have it.

    Example:

    >>> report = label_report([[2.0, 0.0], [1.0, 3.0]], [0, 1], ["joy", "fear"])
    >>> report.contain, report.propensity
    ({'joy': 2.0, 'fear': 3.0}, 0.0)
    """

    rows: int
    accuracy: float
    weighted_f1: float
    macro_f1: float
    exact_match: float
    argmax_weighted_f1: float
    propensity: float
    discrimination: float
    threshold: float | None
    contain: dict[str, float]
    lack: dict[str, float]

    def to_dict(self) -> dict:
        """The report as a dict of plain values."""
        return dataclasses.asdict(self)


def label_report(
    scores,
    y,
    label_names: Sequence[str] | None = None,
    threshold: float | None = None,
) -> LabelReport:
    """F1, exact match, propensity and discrimination of label scores.

    Args:
        scores: float array of shape `(n, labels)`, as `predict` of a
            `LabelWordClassifier` or a classifier returns them: not
            probabilities.
        y: int labels of shape `(n,)`, or multi-hot ones `(n, labels)`.
        label_names: sequence of strings. Defaults to `None`: numbers.
        threshold: float. For multi-hot labels: predict all labels whose
            log-probability among the labels is above it; see
            `tune_threshold`. Defaults to `None`, the highest one alone.

    Returns:
        A `LabelReport`. Propensity and discrimination are in the unit of the
        scores.

    Raises:
        ValueError: If shapes do not fit, scores are not finite, or there is
            a `threshold` and one label a row.
        TypeError: If `y` are not numbers.

    Example:

    >>> report = label_report([[2.0, 0.0], [1.0, 3.0]], [0, 1])
    >>> report.accuracy, report.discrimination
    (1.0, 2.0)
    """
    from sklearn.metrics import f1_score

    scores, gold = _checked(scores, y)
    n, labels = scores.shape
    names = [str(i) for i in range(labels)]
    names = names if label_names is None else list(label_names)
    if len(names) != labels:
        raise ValueError(
            f"Expected {labels} `label_names`, one for each score. "
            f"Received: {names}"
        )
    single = np.ndim(y) == 1
    if single and threshold is not None:
        raise ValueError(
            "Expected `threshold` with multi-hot labels only. Received: "
            f"threshold={threshold} and labels of shape ({n},)"
        )
    highest = np.zeros_like(gold)
    highest[np.arange(n), scores.argmax(axis=1)] = True
    found = highest if threshold is None else log_softmax(scores) > threshold

    def f1(predicted, average):
        return float(
            f1_score(gold, predicted, average=average, zero_division=0)
        )

    def mean(chosen):
        count = chosen.sum(axis=0)
        total = np.where(chosen, scores, 0.0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    contain, lack = mean(gold), mean(~gold)
    gaps = contain - lack
    return LabelReport(
        rows=n,
        accuracy=float((highest & gold).any(axis=1).mean()),
        weighted_f1=f1(found, "weighted"),
        macro_f1=f1(found, "macro"),
        exact_match=float((found == gold).all(axis=1).mean()),
        argmax_weighted_f1=f1(highest, "weighted"),
        propensity=float(scores.mean(axis=0).std()),
        discrimination=float(np.nanmean(gaps)) if labels else 0.0,
        threshold=threshold,
        contain=dict(zip(names, map(float, contain))),
        lack=dict(zip(names, map(float, lack))),
    )


def tune_threshold(scores, y, steps: int = 200) -> float:
    """The threshold with the highest weighted F1 on rows held out for it.

    Args:
        scores: float array of shape `(n, labels)`.
        y: multi-hot labels of the same shape.
        steps: int. How many quantiles of the log-probabilities to try.
            Defaults to `200`.

    Returns:
        A float for `label_report(threshold=...)`: a log-probability among the
        labels, so a constant added to all scores of a row has no effect.

    Raises:
        ValueError: If shapes do not fit or scores are not finite.
        TypeError: If `y` are not numbers.

    Example:

    >>> scores = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 2.0]])
    >>> threshold = tune_threshold(scores, [[1, 0, 0], [0, 1, 1]])
    >>> report = label_report(
    ...     scores, [[1, 0, 0], [0, 1, 1]], threshold=threshold
    ... )
    >>> report.exact_match
    1.0
    """
    from sklearn.metrics import f1_score

    check_int("steps", steps, 1)
    scores, gold = _checked(scores, y)
    chances = log_softmax(scores)
    candidates = np.unique(np.quantile(chances, np.linspace(0, 1, steps)))
    found = [
        f1_score(gold, chances > c, average="weighted", zero_division=0)
        for c in candidates
    ]
    return float(candidates[int(np.argmax(found))])


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities among the labels of each row."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _checked(scores, y) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64, and labels as a bool array of their shape."""
    scores, y = check_floats("scores", scores), np.asarray(y)
    if y.dtype.kind not in "biuf" or y.ndim == 0:
        raise TypeError(
            "Expected `y` to be integer labels, or multi-hot ones. Received: "
            f"y of dtype {y.dtype} and shape {y.shape}"
        )
    if scores.ndim != 2 or len(scores) != len(y) or not len(y):
        raise ValueError(
            "Expected `scores` of shape (n, labels) and n rows of `y`. "
            f"Received: scores of shape {scores.shape}, y of shape {y.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            "Expected finite `scores`. Received: "
            f"{int((~np.isfinite(scores)).sum())} that are not"
        )
    if y.ndim == 1:
        if y.min() < 0 or y.max() >= scores.shape[1]:
            raise ValueError(
                f"Expected labels from 0 to {scores.shape[1] - 1}. "
                f"Received: labels from {y.min()} to {y.max()}"
            )
        return scores, np.eye(scores.shape[1], dtype=bool)[y.astype("int64")]
    if y.shape != scores.shape:
        raise ValueError(
            f"Expected multi-hot labels of the shape {scores.shape}. "
            f"Received: y of shape {y.shape}"
        )
    return scores, y > 0.5
