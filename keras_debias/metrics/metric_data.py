import dataclasses
from typing import Any

import numpy as np

KINDS = ("class", "multi_label", "regression", "generation")


@dataclasses.dataclass(frozen=True)
class MetricData:
    """What a metric may look at: labels and predictions of some rows.

    Attributes:
        kind: string, `"class"`, `"multi_label"`, `"regression"` or
            `"generation"`.
        y_true: array of shape `(n,)`: class indices, numbers or texts;
            boolean array `(n, labels)` for `"multi_label"`.
        y_pred: array like `y_true`, the predictions.
        probabilities: float array of shape `(n, classes)`, or `None` where
            the model has none. For `"generation"` of shape `(n, 2)`: the
            negative log-likelihood of the reference, and its tokens.
        names: tuple of strings, the names of the classes; empty for
            `"regression"` and `"generation"`.
    """

    kind: str
    y_true: np.ndarray
    y_pred: np.ndarray
    # Metrics that read them are refused where there are none.
    probabilities: Any = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y_true)

    def take(self, rows) -> "MetricData":
        """The same of some rows: integers, or a boolean mask."""
        probabilities = self.probabilities
        if probabilities is not None:
            probabilities = probabilities[rows]
        return MetricData(
            self.kind,
            self.y_true[rows],
            self.y_pred[rows],
            probabilities,
            self.names,
        )
