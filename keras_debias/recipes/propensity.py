"""Inverse propensity weights, and how many rows they leave effective."""

import numpy as np

STEPS = 50  # of the bisection
ROUNDS = 10  # of balancing several views in turn


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


def largest_that_keeps(share, weights_at) -> float:
    """The largest number up to 1 whose weights keep enough rows effective.

    Args:
        share: float, the least effective share.
        weights_at: function of a float in [0, 1] to weights, of which fewer
            and fewer rows are effective.

    Returns:
        The number; 0 if none keeps them.
    """
    if effective_share(weights_at(1.0)) >= share:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if effective_share(weights_at(middle)) >= share:
            low = middle
        else:
            high = middle
    return low


def temper(weights, share, rescale=None) -> tuple[np.ndarray, float]:
    """The weights to the largest power up to 1 that keeps rows effective.

    Args:
        weights: array of shape `(n,)`, positive.
        share: float, the least effective share.
        rescale: function of weights to weights, applied after each power; or
            `None`.

    Returns:
        `(weights, power)`: weights with a mean of 1, and the power. Their
        effective share is at least `share`, unless `rescale` leaves less at
        every power: then the power is 0.
    """

    def tempered(power):
        found = weights**power
        return found if rescale is None else rescale(found)

    power = largest_that_keeps(share, tempered)
    found = tempered(power)
    return found / found.mean(), power


def balance_labels(weights, y, hints) -> np.ndarray:
    """Scales weights so that the label is independent of a hinted class.

    Among the rows with one hint, every label that occurs gets the same total
    weight, and each hint keeps its number of rows as its total.

    Args:
        weights: array of shape `(n,)`, positive.
        y: int array of shape `(n,)`, the labels.
        hints: array of shape `(n,)`.
    """
    hints = np.unique(hints, return_inverse=True)[1].reshape(-1)
    totals = np.zeros((hints.max() + 1, y.max() + 1))
    np.add.at(totals, (hints, y), weights)
    labels = (totals > 0).sum(axis=1)
    rows = np.bincount(hints)
    return weights * (rows / labels)[hints] / totals[hints, y]


def propensity_weights(y, views, share) -> tuple[np.ndarray, float]:
    """Weights that make the label independent of inferred attributes.

    The product of 1 / P(label | cell) over the views. If too few rows are
    effective, the product is tempered: its extreme values come from cells
    with one or two rows of a label. After tempering, labels are balanced
    again within each hinted class: tempering alone would give back part of
    the shortcut.

    Args:
        y: int array of shape `(n,)`, the labels.
        views: list of `(cells, hints)`, two arrays of shape `(n,)` each.
        share: float, the least effective share.

    Returns:
        `(weights, power)`, see `temper`.
    """
    weights = np.ones(len(y))
    for cells, _ in views:
        weights = weights * inverse_propensity(y, cells)

    def rescale(weights):
        for _ in range(ROUNDS if len(views) > 1 else 1):
            for _, hints in views:
                weights = balance_labels(weights, y, hints)
        return weights

    weights, power = temper(weights, share, rescale)
    if effective_share(weights) < share:
        # Balanced hints alone are too uneven.
        weights, _ = temper(weights, share)
    return weights, power
