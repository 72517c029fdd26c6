"""Metrics of numbers, from sums over rows."""

import numpy as np

from keras_debias.metrics.metric_data import MetricData


def moments(data: MetricData) -> np.ndarray:
    """Columns of ones, of both values, their products and their distance."""
    # Distances from a mean, so that squares of large numbers lose nothing.
    center = data.y_true.mean() if len(data) else 0.0
    y, x = data.y_true - center, data.y_pred - center
    columns = [np.ones(len(y)), y, x, y * y, x * x, x * y, np.abs(x - y)]
    return np.stack([*columns, (x - y) ** 2], axis=1)


def _spreads(sums) -> tuple:
    n, y, x, yy, xx, xy = (sums[..., i] for i in range(6))
    return yy - y * y / n, xx - x * x / n, xy - x * y / n


def mean_absolute_error(sums, data):
    return sums[..., 6] / sums[..., 0]


def root_mean_squared_error(sums, data):
    return np.sqrt(sums[..., 7] / sums[..., 0])


def _constant(spread, squares):
    """Whether values do not vary, but for rounding."""
    return spread <= 1e-12 * np.maximum(squares, 1e-300)


def r_squared(sums, data):
    spread, _, _ = _spreads(sums)
    found = 1 - sums[..., 7] / spread
    return np.where(_constant(spread, sums[..., 3]), np.nan, found)


def pearson(sums, data):
    of_y, of_x, of_both = _spreads(sums)
    found = of_both / np.sqrt(np.maximum(of_y * of_x, 0.0))
    constant = _constant(of_y, sums[..., 3]) | _constant(of_x, sums[..., 4])
    return np.where(constant, np.nan, np.clip(found, -1.0, 1.0))
