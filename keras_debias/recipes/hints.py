"""Cells by the class that a bias-only model hints at."""

import numpy as np


def hinted_cells(probabilities, names, confident, threshold=None):
    """The most probable class where a model is confident, else "none".

    Args:
        probabilities: array of shape `(n, classes)`.
        names: sequence of strings, the name of each class.
        confident: float, the share of the rows that get a class.
        threshold: float, the lowest probability of a confident row. Defaults
            to `None`: the quantile that leaves `confident` of these rows.

    Returns:
        `(cells, threshold)`: string array of shape `(n,)`, and a float.
    """
    highest = probabilities.max(axis=1)
    if threshold is None:
        threshold = float(np.quantile(highest, 1 - confident))
    hints = np.asarray(names, dtype=object)[probabilities.argmax(axis=1)]
    return np.where(highest >= threshold, hints, "none"), threshold


def check_confident(confident) -> None:
    """Raises unless `confident` is a share above 0 and at most 1."""
    if isinstance(confident, bool) or not isinstance(
        confident, (int, float, np.number)
    ):
        raise TypeError(
            "Expected `confident` to be a number above 0 and at most 1. "
            f"Received: confident={confident!r}"
        )
    if not (np.isfinite(confident) and 0 < confident <= 1):
        raise ValueError(
            "Expected `confident` above 0 and at most 1. Received: "
            f"confident={confident}"
        )
