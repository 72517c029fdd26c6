from collections.abc import Callable

import numpy as np

from keras_debias.metrics.metric import Metric
from keras_debias.metrics.metric_data import MetricData

# Numbers held at a time while resamples are summed up.
CHUNK = 4_000_000


class BuiltInMetric(Metric):
    """A metric that is computed from weighted sums, or from ranks.

    Args:
        name: string.
        kinds: tuple of strings, the kinds of `MetricData` it is defined for.
        higher_is_better: bool.
        prepare: function of `MetricData` to anything: what does not depend
            on the weights. For sums, a float array of shape `(n, columns)`.
        compute: for sums, function of `(sums, data)`, sums of shape `(...,
            columns)`, to an array of shape `(...)`; else function of
            `(prepared, weights)`, weights of shape `(B, n)`, to `(B,)`.
        on: string, see `Metric`.
        sums: bool. Whether `prepare` returns columns to be summed.
    """

    def __init__(
        self,
        name: str,
        kinds: tuple[str, ...],
        higher_is_better: bool,
        prepare: Callable,
        compute: Callable,
        on: str = "predictions",
        sums: bool = True,
    ):
        super().__init__(lambda y_true, y_pred: 0.0, higher_is_better, on, name)
        self.kinds = kinds
        self.prepare = prepare
        self.compute = compute
        self.sums = sums
        self.takes_weight = True

    def value(self, data: MetricData, weight=None) -> float:
        weight = np.ones(len(data)) if weight is None else weight
        return float(self._of(data, weight[None])[0])

    def prepared(self, data):
        # Sorting is slow and shared; columns are cheap but large.
        return None if self.sums else self.prepare(data)

    def resampled(self, data, counts, weight=None, prepared=None):
        counts = counts.astype("float64")
        if weight is not None:
            counts = counts * weight
        return self._of(data, counts, prepared)

    def _of(self, data, weights, prepared=None) -> np.ndarray:
        if prepared is None:
            prepared = self.prepare(data)
        # Undefined values are not numbers, and no reason for a warning.
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.sums:
                found = self.compute(weights @ prepared, data)
            else:
                found = self.compute(prepared, weights)
        found = np.asarray(found, "float64")
        return np.where(np.isfinite(found), found, np.nan)
