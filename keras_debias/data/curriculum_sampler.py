"""`CurriculumSampler`: a growing part of the rows."""

import numpy as np

from keras_debias.data.arguments import check_number
from keras_debias.data.checks import check_row_values


class CurriculumSampler:
    """Draws from a part of the rows that grows with each epoch.

    Rows are ranked by `difficulty`. At first, rows are drawn from the easiest
    share `start`. The share grows linearly over the first `growth` passes,
    until it includes all rows.

    Args:
        difficulty: float array of shape `(n,)`, not negative.
        start: float in (0, 1], the share at the beginning. Defaults to `0.25`.
        growth: float above 0, how many passes the growth takes. Defaults to
            `1.0`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> sampler = CurriculumSampler([0.0, 1.0, 2.0, 3.0], 0.25, growth=1.0)
    >>> int(sampler(np.random.default_rng(0), number=0)[0])
    0
    """

    def __init__(self, difficulty, start: float = 0.25, growth: float = 1.0):
        difficulty = check_row_values("difficulty", difficulty)
        check_number("start", start, 0, 1, above=True)
        check_number("growth", growth, 0, above=True)
        self.ranked = np.argsort(difficulty, kind="stable")
        self.start, self.growth = start, growth

    def __call__(
        self, generator: np.random.Generator, number: int = 0
    ) -> np.ndarray:
        rows = len(self.ranked)
        progress = (number + np.arange(rows) / rows) / self.growth
        share = self.start + (1 - self.start) * np.minimum(progress, 1.0)
        limits = np.maximum(1, np.round(share * rows)).astype("int64")
        return self.ranked[generator.integers(0, limits)]
