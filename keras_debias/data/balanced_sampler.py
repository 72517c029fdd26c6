"""`BalancedSampler`: all groups equally often."""

import numpy as np

from keras_debias.data.groups import Groups


class BalancedSampler:
    """Draws rows with replacement, all groups equally often.

    With `fit(..., sampler=BalancedSampler(train.groups))`, each pass over the
    data is a new draw, which depends on the seed and the number of the pass.

    Args:
        groups: `keras_debias.data.Groups` of the training data, or an
            integer array of shape `(n,)`. Groups without rows are left out.

    Raises:
        ValueError: If there are fewer than two groups with rows.
        TypeError: If `groups` is of another type.

    Example:

    >>> sampler = BalancedSampler([0, 0, 0, 1])
    >>> order = sampler(np.random.default_rng(0))
    >>> order.shape
    (4,)
    """

    def __init__(self, groups):
        ids = groups.ids if isinstance(groups, Groups) else np.asarray(groups)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise TypeError(
                "Expected `groups` to be a `Groups`, or a 1-D array of "
                f"integers. Received: {groups!r}"
            )
        cells = [np.flatnonzero(ids == code) for code in np.unique(ids)]
        if len(cells) < 2:
            raise ValueError(
                "`BalancedSampler` needs at least two groups with rows. "
                f"Received: {len(cells)} in {len(ids)} rows"
            )
        self.rows = len(ids)
        self.cells = cells

    def __call__(
        self, generator: np.random.Generator, number: int = 0
    ) -> np.ndarray:
        chosen = generator.integers(0, len(self.cells), self.rows)
        order = np.empty(self.rows, dtype="int64")
        for number, cell in enumerate(self.cells):
            here = np.flatnonzero(chosen == number)
            order[here] = generator.choice(cell, len(here))
        return order
