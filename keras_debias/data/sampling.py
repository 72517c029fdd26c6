"""Which rows to draw: quotas, and strata."""

import numpy as np


def check_size(n: int, rows: int) -> None:
    """Raises if `n` of `rows` rows cannot be drawn."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"Expected `n` to be an integer. Received: n={n!r}")
    if not 1 <= n <= rows:
        raise ValueError(
            f"Expected `n` to be between 1 and the {rows} rows of the split. "
            f"Received: n={n}"
        )


def quotas(sizes: np.ndarray, n: int) -> np.ndarray:
    """Divides `n` equally among cells, none above its size.

    The other cells share what a small cell cannot provide. A remainder goes to
    the first cells, one each.

    Args:
        sizes: int array of shape `(cells,)`.
        n: int, at most `sizes.sum()`.

    Returns:
        An int array of shape `(cells,)` that sums to `n`.
    """
    result = np.zeros_like(sizes)
    while n > 0:
        open_cells = np.flatnonzero(result < sizes)
        share = max(n // len(open_cells), 1)
        for cell in open_cells[:n]:
            given = min(share, int(sizes[cell] - result[cell]), n)
            result[cell] += given
            n -= given
    return result


def draw(cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws `n` row indices, equally many of each cell where possible."""
    codes, counts = np.unique(cells, return_counts=True)
    chosen = [
        rng.permutation(np.flatnonzero(cells == code))[:quota]
        for code, quota in zip(codes, quotas(counts, n), strict=True)
    ]
    return rng.permutation(np.concatenate(chosen))


def stratified_mask(
    cells: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    keys: np.ndarray | None = None,
) -> np.ndarray:
    """Returns a mask of `round(fraction * n)` rows, stratified by cell.

    Args:
        cells: int array of shape `(n,)`.
        fraction: float, the share of the rows.
        rng: `numpy.random.Generator`.
        keys: int array of shape `(n,)` or None. Rows with the same key
            stay together; the number of rows is then only nearly right.
    """
    codes, counts = np.unique(cells, return_counts=True)
    exact = counts * fraction
    taken = np.floor(exact).astype(int)
    # largest remainders, so that the total is right too
    rest = round(fraction * len(cells)) - int(taken.sum())
    for cell in np.argsort(taken - exact, kind="stable")[: max(rest, 0)]:
        taken[cell] += 1
    mask = np.zeros(len(cells), dtype=bool)
    repeated = keys is not None and len(np.unique(keys)) < len(keys)
    for code, number in zip(codes, taken, strict=True):
        rows = rng.permutation(np.flatnonzero(cells == code))
        if not repeated:
            mask[rows[:number]] = True
    return _whole_keys(cells, codes, taken, rng, keys) if repeated else mask


def _whole_keys(cells, codes, taken, rng, keys) -> np.ndarray:
    """A mask of about `taken` rows of each cell; keys are not divided."""
    _, first, keys = np.unique(keys, return_index=True, return_inverse=True)
    sizes = np.bincount(keys)
    # A key whose rows have different labels counts for that of its first.
    key_cells = cells[first]
    chosen = np.zeros(len(sizes), dtype=bool)
    for code, number in zip(codes, taken, strict=True):
        room = number
        for key in rng.permutation(np.flatnonzero(key_cells == code)):
            if sizes[key] <= room:
                chosen[key] = True
                room -= sizes[key]
    return chosen[keys]
