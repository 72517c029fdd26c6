"""Training sets of low-data regimes."""

import numpy as np

from keras_debias.data import sampling
from keras_debias.data.arguments import check_seed
from keras_debias.data.split import Split

REGIMES = ("low", "medium", "high")
_SIZES = {
    "sst2": (1000, 5000, 11000),
    "rte": (300, 900, 1200),
    "qqp": (1000, 5000, 9000),
    "qnli": (1000, 5000, 9000),
    "mnli": (1000, 5000, 9000),
    "cola": (1710, 3420, 4275),
    "mrpc": (367, 1191, 1835),
    "stsb": (287, 1150, 2300),
}


def low_data(split: Split, task: str, regime: str, seed: int = 0) -> Split:
    """Draws a training set of a low-data regime of GLUE.

    The labels keep their shares: each gets rows in proportion to its share of
    the set, and the rows left over go to the largest remainders, so the size
    is exact. Scores (STS-B) and sets without labels are drawn without strata.

    | task | low | medium | high |
    |---|---|---|---|
    | sst2 | 1000 | 5000 | 11000 |
    | rte | 300 | 900 | 1200 |
    | qqp, qnli, mnli | 1000 | 5000 | 9000 |
    | cola | 1710 | 3420 | 4275 |
    | mrpc | 367 | 1191 | 1835 |
    | stsb | 287 | 1150 | 2300 |

    Args:
        split: `Split`, the training set.
        task: string, the name of the set in the table above, for the sizes;
            `split` may hold other data. Case and hyphens do not matter:
            `"SST-2"`.
        regime: string, `"low"`, `"medium"` or `"high"`.
        seed: int; the same seed draws the same rows. Defaults to `0`.

    Returns:
        A `Split` with the rows drawn, in random order.

    Raises:
        ValueError: If the task or the regime is unknown, or the regime is
            larger than the set.
        TypeError: If `split` is not a `Split`.

    Example:

    >>> split = Split([f"text {i}" for i in range(2000)], [0, 0, 0, 1] * 500)
    >>> small = low_data(split, "sst2", "low")
    >>> len(small), int(small.y.sum())
    (1000, 250)

    Reference:

    - BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
      Language Models in Low-Data Regimes*, Table 17. The paper does not say
      how its rows were drawn; the strata are ours.
    """
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `keras_debias.data.Split`. Received: "
            f"{type(split).__name__}"
        )
    check_seed(seed)
    name = task.lower() if isinstance(task, str) else task
    if isinstance(name, str):
        name = name.replace("-", "").replace("_", "")
    if name not in tuple(_SIZES):
        raise ValueError(
            f"Expected `task` to be one of {tuple(_SIZES)}. Received: "
            f"task={task!r}"
        )
    if regime not in REGIMES:
        raise ValueError(
            f"Expected `regime` to be one of {REGIMES}. Received: "
            f"regime={regime!r}"
        )
    size = _SIZES[name][REGIMES.index(regime)]
    if size > len(split):
        fitting = [r for r, n in zip(REGIMES, _SIZES[name]) if n <= len(split)]
        raise ValueError(
            f"The regime {regime!r} of {name!r} has {size} rows, and the "
            f"split has {len(split)}. "
            + (
                f"Regimes that fit: {fitting}."
                if fitting
                else f"No regime of {name!r} fits; use `split.sample(n)`."
            )
        )
    rng = np.random.default_rng(seed)
    cells = np.zeros(len(split), dtype="int64")
    y = split.y
    if y is not None and y.ndim == 1 and y.dtype.kind == "i":
        cells = y
    mask = sampling.stratified_mask(cells, size / len(split), rng)
    return split.take(rng.permutation(np.flatnonzero(mask)))
