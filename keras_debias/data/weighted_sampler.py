"""`WeightedSampler`: some rows more often than others."""

import numpy as np

from keras_debias.data.checks import check_row_values


class WeightedSampler:
    """Draws rows with replacement, in proportion to weights.

    Weights change the order of the rows and not the loss, where a few large
    weights would make single updates huge.

    Args:
        weights: float array of shape `(n,)`, not negative, not all zero.

    Raises:
        ValueError: If weights are negative, not finite or all zero.

    Example:

    >>> sampler = WeightedSampler([0.0, 1.0])
    >>> sampler(np.random.default_rng(0)).tolist()
    [1, 1]
    """

    def __init__(self, weights):
        weights = check_row_values("weights", weights)
        if not weights.sum() > 0:
            raise ValueError(
                "Expected one of `weights` to be above zero. Received: "
                f"{len(weights)} zeros"
            )
        self.probabilities = weights / weights.sum()

    def __call__(
        self, generator: np.random.Generator, number: int = 0
    ) -> np.ndarray:
        rows = len(self.probabilities)
        return generator.choice(rows, rows, p=self.probabilities)
