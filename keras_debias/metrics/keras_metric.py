import keras
import numpy as np
from keras import ops

from keras_debias.metrics.metric import Metric

# For these, less is better.
LOWER_IS_BETTER = (
    *("MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError"),
    *("MeanAbsolutePercentageError", "MeanSquaredLogarithmicError"),
    *("LogCoshError", "KLDivergence", "Poisson", "Hinge", "SquaredHinge"),
    *("CategoricalHinge", "BinaryCrossentropy", "CategoricalCrossentropy"),
    *("SparseCategoricalCrossentropy", "FalsePositives", "FalseNegatives"),
)
RISING = (
    *("Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "AUC"),
    *("SparseCategoricalAccuracy", "TopKCategoricalAccuracy"),
    *("SparseTopKCategoricalAccuracy", "Precision", "Recall", "F1Score"),
    *("FBetaScore", "TruePositives", "TrueNegatives", "R2Score"),
    *("PearsonCorrelation", "ConcordanceCorrelation", "CosineSimilarity"),
    *("PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity"),
    *("SpecificityAtSensitivity",),
)
# These want the labels as one column a class.
ONE_HOT = (
    *("CategoricalAccuracy", "TopKCategoricalAccuracy", "F1Score"),
    *("FBetaScore", "CategoricalCrossentropy", "CategoricalHinge"),
    *("KLDivergence",),
)


class KerasMetric(Metric):
    """A Keras metric, called as Keras calls it in `fit`.

    Args:
        metric: `keras.metrics.Metric`.
        higher_is_better: bool, or `None`: as is known of Keras' own.
        name: string, or `None`: that of the metric.
    """

    def __init__(self, metric, higher_is_better=None, name=None):
        kind = type(metric).__name__
        if higher_is_better is None and kind in (*LOWER_IS_BETTER, *RISING):
            higher_is_better = kind in RISING
        if higher_is_better is None:
            raise ValueError(
                "Expected a metric of which the direction is known. Received: "
                f"{metric!r}. Use `kd.metrics.get(metric, "
                "higher_is_better=...)`."
            )
        if metric.get_config().get("from_logits"):
            raise ValueError(
                "Expected a metric of probabilities. Received: "
                f"{metric!r} with from_logits=True. Leave that out: logits "
                "of a model are turned into probabilities first."
            )
        on = "predictions" if kind == "Accuracy" else None
        super().__init__(
            metric_function(metric, kind),
            higher_is_better,
            on or "probabilities",
            name or metric.name,
        )
        self.of_classes = kind == "Accuracy"

    def check(self, data, weight=None):
        self.on = "probabilities"
        if self.of_classes or data.kind == "regression":
            self.on = "predictions"
        super().check(data, weight)


def metric_function(metric, kind):
    """A function of `(y_true, y_pred, sample_weight)`."""

    def value(y_true, y_pred, sample_weight=None):
        if y_pred.dtype.kind == "f" and y_pred.ndim == 1:
            # One output: the labels are a column as well.
            y_true, y_pred = y_true[:, None], y_pred[:, None]
            if kind in ONE_HOT or kind.startswith("Sparse"):
                y_pred = np.concatenate([1 - y_pred, y_pred], axis=1)
        if kind in ONE_HOT and y_true.shape != y_pred.shape:
            y_true = np.eye(y_pred.shape[1])[y_true.reshape(-1)]
        metric.reset_state()
        metric.update_state(
            y_true.astype("float32"),
            y_pred.astype("float32"),
            sample_weight=sample_weight,
        )
        found = ops.convert_to_numpy(metric.result())
        metric.reset_state()
        return found

    return value


def is_keras_metric(value) -> bool:
    return isinstance(value, keras.metrics.Metric)
