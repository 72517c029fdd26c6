"""Inverse propensity weights, and how many rows they leave effective."""

import numpy as np

STEPS = 50  # of the bisection


def inverse_propensity(y, cells) -> np.ndarray:
    """1 / P(label | cell) of each row, estimated by counting.

    With these weights the label is independent of the cell, every class of
    a cell weighs the same, and each cell keeps its size.
    """
    cells = np.unique(cells, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((cells.max() + 1, y.max() + 1))
    np.add.at(counts, (cells, y), 1.0)
    return counts.sum(axis=1)[cells] / counts[cells, y]


def effective_share(weights) -> float:
    """The effective number of rows (Kish) as a share of all rows."""
    shares = weights / weights.sum()
    return float(1 / (shares**2).sum() / len(weights))


def temper(weights, share) -> tuple[np.ndarray, float]:
    """The weights to the largest power up to 1 that keeps rows effective.

    Returns:
        `(weights, power)`: weights with a mean of 1 whose effective share is
        at least `share`, and the power.
    """
    power = 1.0
    if effective_share(weights) < share:
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            power = (low + high) / 2
            if effective_share(weights**power) >= share:
                low = power
            else:
                high = power
        power = low
    weights = weights**power
    return weights / weights.mean(), power
