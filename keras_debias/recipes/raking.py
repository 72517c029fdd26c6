"""Raking: weights whose totals over several attributes are given."""

import numpy as np

from keras_debias.recipes.propensity import effective_share
from keras_debias.recipes.propensity import largest_that_keeps
from keras_debias.recipes.propensity import temper

ROUNDS = 200  # of the fit, at most
TOLERANCE = 1e-9  # of a total, as a share of all rows


def raking_weights(y, views, share) -> tuple[np.ndarray, float]:
    """Weights that make labels and several attributes even.

    Within each cell of each attribute, every label gets the same total
    weight. Cells of an attribute get totals between their frequency and the
    same for all: as even as the effective number of rows allows.

    Args:
        y: int array of shape `(n,)`, the labels.
        views: list of arrays of shape `(n,)`, the cells of one attribute each.
        share: float, the least effective number of rows (Kish), as a share of
            all.

    Returns:
        `(weights, evenness)`: weights with a mean of 1, and a float between
        0, where cells keep their frequencies, and 1, where all cells of an
        attribute weigh the same.
    """
    cells = [
        np.unique(view, return_inverse=True)[1].reshape(-1) for view in views
    ]
    # Rows that are alike in all attributes have the same weight.
    patterns, rows, counts = np.unique(
        np.column_stack([y, *cells]),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    rows = rows.reshape(-1)
    margins = [
        _Margin(patterns[:, 0], patterns[:, i], counts)
        for i in range(1, patterns.shape[1])
    ]

    def found(evenness):
        return (_fitted(counts, margins, evenness) / counts)[rows]

    evenness = largest_that_keeps(share, found)
    weights = found(evenness)
    if effective_share(weights) < share:
        # Even labels alone leave too few rows.
        weights, _ = temper(weights, share)
    return weights / weights.mean(), evenness


class _Margin:
    """Label x cell of one attribute, of the patterns."""

    def __init__(self, y, cells, counts):
        pairs, codes = np.unique(
            np.column_stack([cells, y]), axis=0, return_inverse=True
        )
        self.codes = codes.reshape(-1)
        self.cell_of = pairs[:, 0]
        # How many labels the cell of a pair has.
        self.labels = np.bincount(self.cell_of)[self.cell_of]
        self.frequency = np.bincount(cells, counts) / counts.sum()

    def rescaled(self, totals, evenness):
        even = 1 / len(self.frequency)
        target = self.frequency + evenness * (even - self.frequency)
        target = target[self.cell_of] / self.labels
        found = np.bincount(self.codes, totals)
        return totals * (target / found)[self.codes]


def _fitted(counts, margins, evenness):
    """Total weights of the patterns: iterative proportional fitting."""
    totals = counts / counts.sum()
    for _ in range(ROUNDS):
        before = totals
        for margin in margins:
            totals = margin.rescaled(totals, evenness)
        if np.abs(totals - before).max() < TOLERANCE:
            break
    return totals
