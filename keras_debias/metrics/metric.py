import inspect
import warnings
from collections.abc import Callable

import keras
import numpy as np

from keras_debias.metrics.metric_data import KINDS
from keras_debias.metrics.metric_data import MetricData

INPUTS = ("predictions", "probabilities")
HIGHER_IS_BETTER = ("_score", "_accuracy", "_coefficient", "_coef")
LOWER_IS_BETTER = ("_loss", "_error", "_deviance", "_distance")
# Argument names by which scikit-learn means scores.
SCORES = ("y_score", "y_scores", "y_proba", "y_prob")
# Of probabilities, although the argument is called `y_pred`.
OF_PROBABILITIES = ("log_loss", "d2_log_loss_score")


class Metric:
    """A metric: a function of labels and predictions, and its direction.

    `kd.evaluate`, `OODEvaluation`, `compare` and `MetricCriterion` take
    functions as they are. Wrap one where its name does not say which
    direction is better, or what it is computed from.

    Args:
        function: function of `(y_true, y_pred)`, and of `sample_weight`
            where it has such an argument, to a number. It gets class
            indices of shape `(n,)`, in the order of the model's outputs;
            zeros and ones of shape `(n, labels)` where a row may have
            several labels; numbers of shape `(n,)` for a regression.
        higher_is_better: bool. Defaults to `None`: as the name of the
            function says, by scikit-learn's convention (`_score` rises,
            `_loss` and `_error` fall).
        on: string. `"predictions"`, or `"probabilities"`: of shape `(n,)`,
            those of the second class, where there are two; else `(n,
            classes)`. Defaults to `None`: as the name of the second argument
            says (`y_score` and `y_proba` are probabilities).
        name: string. Defaults to `None`: the name of the function.

    Raises:
        TypeError: If `function` cannot be called with two arguments.
        ValueError: If the direction is unknown, or another argument is out
            of range.

    Example:

    >>> def share_of_yes(y_true, y_pred):
    ...     return float(np.mean(y_pred))
    >>> metric = Metric(share_of_yes, higher_is_better=False)
    >>> metric.name, metric.on
    ('share_of_yes', 'predictions')
    """

    kinds: tuple[str, ...] = KINDS

    def __init__(
        self,
        function: Callable,
        higher_is_better: bool | None = None,
        on: str | None = None,
        name: str | None = None,
    ):
        if isinstance(function, (type, keras.metrics.Metric)) or not callable(
            function
        ):
            raise TypeError(
                "Expected `function` to be a function of (y_true, y_pred). "
                f"Received: function={function!r}. Metrics of Keras go into "
                "`kd.metrics.get(metric)`."
            )
        parameters = _parameters(function)
        own_name = getattr(function, "__name__", type(function).__name__)
        if higher_is_better is None:
            higher_is_better = _direction(own_name)
        if higher_is_better is None:
            raise ValueError(
                "Expected a metric of which the direction is known. Received: "
                f"{own_name!r}, whose name does not end in one of "
                f"{(*HIGHER_IS_BETTER, *LOWER_IS_BETTER)}. Use "
                "`kd.metrics.Metric(function, higher_is_better=...)`."
            )
        if not isinstance(higher_is_better, (bool, np.bool_)):
            raise TypeError(
                "Expected `higher_is_better` to be True, False or None. "
                f"Received: higher_is_better={higher_is_better!r}"
            )
        if on is None:
            second = parameters[1] if len(parameters) > 1 else ""
            scores = second in SCORES or own_name in OF_PROBABILITIES
            on = INPUTS[int(scores)]
        if on not in INPUTS:
            raise ValueError(
                f"Expected `on` to be one of {INPUTS}. Received: on={on!r}"
            )
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(
                f"Expected `name` to be a string. Received: name={name!r}"
            )
        self.function = function
        self.higher_is_better = bool(higher_is_better)
        self.on = on
        self.name = name or own_name
        self.takes_weight = "sample_weight" in parameters

    def __repr__(self) -> str:
        way = "higher" if self.higher_is_better else "lower"
        return f"Metric({self.name!r}, {way} is better, on {self.on})"

    def check(self, data: MetricData, weight=None) -> None:
        """Raises unless the metric can be computed of such data.

        Args:
            data: `MetricData`.
            weight: float array of shape `(n,)`. Defaults to `None`.

        Raises:
            ValueError: If the kind of data is not among `kinds`, probabilities
                are missing, or rows have unequal weights and the function
                takes none.
        """
        if data.kind not in self.kinds:
            raise ValueError(
                f"Expected data of the kinds {self.kinds} for the metric "
                f"{self.name!r}. Received: {data.kind!r}. "
                f"{_otherwise(data.kind)}"
            )
        if self.on == "probabilities" and data.probabilities is None:
            raise ValueError(
                f"Expected probabilities for the metric {self.name!r}. "
                f"Received: predictions only ({data.kind!r}). Use a metric "
                "of predictions."
            )
        weighted = weight is not None and np.ptp(weight) > 0
        if weighted and not self.takes_weight:
            raise ValueError(
                f"Expected the metric {self.name!r} to take `sample_weight`, "
                "as rows have weights. Received: a function without that "
                "argument. Add it, or evaluate a split without weights."
            )

    def value(self, data: MetricData, weight=None) -> float:
        """The metric over all rows.

        Args:
            data: `MetricData`.
            weight: float array of shape `(n,)`. Defaults to `None`.

        Returns:
            A float; NaN where the metric is undefined.

        Raises:
            ValueError: If the function does not return one number.
        """
        options = {}
        if weight is not None and self.takes_weight:
            options["sample_weight"] = weight
        return _number(
            self.function(*self._arguments(data), **options), self.name
        )

    def prepared(self, data: MetricData):
        """What resamples of the same rows share, or `None`."""
        return None

    def resampled(
        self,
        data: MetricData,
        counts: np.ndarray,
        weight=None,
        prepared=None,
    ) -> np.ndarray:
        """The metric of resamples of the rows.

        Args:
            data: `MetricData` of `n` rows.
            counts: array of shape `(resamples, n)`: how often each row is
                drawn.
            weight: float array of shape `(n,)`. Defaults to `None`.
            prepared: what `prepared(data)` returned. Defaults to `None`.

        Returns:
            A float array of shape `(resamples,)`.
        """
        found = np.full(len(counts), np.nan)
        for i, drawn in enumerate(counts):
            rows = np.repeat(np.arange(len(data)), drawn.astype("int64"))
            if len(rows):
                found[i] = self.lenient(
                    data.take(rows), None if weight is None else weight[rows]
                )
        return found

    def lenient(self, data: MetricData, weight=None) -> float:
        """`value` of a subset of the rows; NaN where it raises.

        Args:
            data: `MetricData` of the subset.
            weight: float array of shape `(n,)`. Defaults to `None`.

        Returns:
            A float.
        """
        if not len(data):
            return np.nan
        try:
            # Part of the rows may lack a class: no reason for a warning.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.value(data, weight)
        except (ValueError, ZeroDivisionError):
            return np.nan

    def _arguments(self, data) -> tuple:
        y_true = data.y_true
        if data.kind == "multi_label":
            y_true = y_true.astype("int64")
        if self.on == "predictions":
            y_pred = data.y_pred
            if data.kind == "multi_label":
                y_pred = y_pred.astype("int64")
            return y_true, y_pred
        probabilities = data.probabilities
        if data.kind == "class" and probabilities.shape[1] == 2:
            probabilities = probabilities[:, 1]
        return y_true, probabilities


def _parameters(function) -> list[str]:
    try:
        signature = inspect.signature(function)
    except ValueError:
        return []  # a function of C without a signature
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise TypeError(
            "Expected a function of (y_true, y_pred). Received: "
            f"{function!r} with the signature {signature}"
        ) from error
    return list(signature.parameters)


def _direction(name: str) -> bool | None:
    if name.endswith(LOWER_IS_BETTER):
        return False
    return True if name.endswith(HIGHER_IS_BETTER) else None


def _number(value, name) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected the metric {name!r} to return one number. Received: "
            f"{str(value)[:60]} of shape {array.shape}"
        )
    value = float(array.reshape(()))
    return value if np.isfinite(value) else np.nan


def _otherwise(kind) -> str:
    return {
        "class": "For classes use, for instance, 'balanced_accuracy'.",
        "multi_label": "For rows with several labels use, for instance, "
        "'exact_match' or 'macro_f1'.",
        "generation": "For generated answers use, for instance, "
        "'exact_match' or 'token_f1'.",
        "regression": "For a regression use, for instance, 'rmse' or "
        "'spearman'.",
    }[kind]
