"""`StratifiedBatchSampler`: rows of a small part in every batch."""

import numpy as np

from keras_debias.data.arguments import check_int


class StratifiedBatchSampler:
    """Fills each batch with some rows of a small part, and other rows.

    Each batch gets `floor(share * batch_size) + 1` rows of the part, where
    `share` is the part's share of the data. Both kinds of rows are drawn in
    random order, without replacement until all are used.

    Args:
        mask: bool array of shape `(n,)`, True for the rows of the part.
        batch_size: int, that of `fit`.

    Raises:
        ValueError: If the part is empty or everything, or leaves no room for
            the others in a batch.
        TypeError: If `mask` is not a 1-D array of booleans.

    Example:

    >>> sampler = StratifiedBatchSampler([True] + 7 * [False], batch_size=4)
    >>> order = sampler(np.random.default_rng(0))
    >>> 0 in order[:4] and 0 in order[4:]
    True
    """

    def __init__(self, mask, batch_size: int):
        check_int("batch_size", batch_size, 1)
        mask = np.asarray(mask)
        if mask.ndim != 1 or mask.dtype.kind not in "biu" or not len(mask):
            raise TypeError(
                "Expected `mask` to be a 1-D array of booleans, one a row. "
                f"Received: shape {mask.shape}, dtype {mask.dtype}"
            )
        mask = mask.astype(bool)
        self.inside, self.outside = np.flatnonzero(mask), np.flatnonzero(~mask)
        self.quota = len(self.inside) * batch_size // len(mask) + 1
        if not len(self.inside) or not len(self.outside):
            raise ValueError(
                "Expected `mask` to hold rows of both kinds. Received: "
                f"{len(self.inside)} of {len(mask)} rows are True"
            )
        if self.quota >= batch_size:
            raise ValueError(
                "Expected `mask` to leave room for other rows in a batch. "
                f"Received: a quota of {self.quota} in batch_size={batch_size}"
            )
        self.rows, self.batch_size = len(mask), batch_size

    def __call__(
        self, generator: np.random.Generator, number: int = 0
    ) -> np.ndarray:
        batches = -(-self.rows // self.batch_size)
        inside = _cycle(self.inside, batches * self.quota, generator)
        rest = self.batch_size - self.quota
        outside = _cycle(self.outside, batches * rest, generator)
        order = np.concatenate(
            [inside.reshape(batches, -1), outside.reshape(batches, -1)], axis=1
        )
        return order.reshape(-1)[: self.rows]


def _cycle(rows, count, generator):
    passes = -(-count // len(rows))
    drawn = [generator.permutation(rows) for _ in range(passes)]
    return np.concatenate(drawn)[:count]
