"""Subsamples with chosen class ratios."""

from collections.abc import Mapping

import numpy as np

from keras_debias.data.arguments import check_number
from keras_debias.data.arguments import check_seed
from keras_debias.data.checks import class_labels
from keras_debias.data.labels import match_labels
from keras_debias.data.split import Split


def subsample_classes(
    split: Split,
    ratio: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Split:
    """Draws the largest subsample with given class ratios.

    Args:
        split: `Split` with `label_names`.
        ratio: dict from label name to its share, in any unit; 0 leaves a
            label out. Every label of the split must be named. Defaults to
            `None`: `{"entailment": 100, "neutral": 10, "contradiction": 1}`.
        seed: int; the same seed draws the same rows. Defaults to `0`.

    Returns:
        A `Split` with the rows drawn, in their original order.

    Raises:
        ValueError: If a label is unknown, left unnamed, or the split is too
            small for one row of each label.
        TypeError: If `split` or `ratio` is of another type.

    Example:

    >>> split = Split(list("abcd"), ["no", "no", "yes", "yes"])
    >>> len(subsample_classes(split, {"no": 2, "yes": 1}))
    3

    Reference:

    - [BA-LoRA](https://arxiv.org/abs/2408.04556), class imbalance
      100:10:1 on MNLI.
    """
    check_seed(seed)
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `Split`. Received: "
            f"{type(split).__name__}"
        )
    if ratio is not None and not isinstance(ratio, Mapping):
        raise TypeError(
            "Expected `ratio` to be a dict from label name to number, or None. "
            f"Received: ratio={ratio!r}"
        )
    if ratio is None:
        ratio = {"entailment": 100, "neutral": 10, "contradiction": 1}
    labels = class_labels(split, "`subsample_classes`")
    names = split.label_names or tuple(
        str(i) for i in range(int(labels.max()) + 1)
    )
    indices: list = match_labels(list(ratio), names)
    if None in indices or set(indices) != set(range(len(names))):
        raise ValueError(
            "Expected `ratio` to name every label of the split, and no other. "
            f"Received: ratio={dict(ratio)}, labels: {names}. A ratio of 0 "
            "leaves a label out."
        )
    shares = np.zeros(len(names))
    for index, share in zip(indices, ratio.values(), strict=True):
        check_number(f"ratio[{names[index]!r}]", share, 0)
        shares[index] = share
    counts = np.bincount(labels, minlength=len(names))
    used = shares > 0
    if not used.any():
        raise ValueError(
            "Expected `ratio` to keep at least one label. Received: "
            f"ratio={dict(ratio)}"
        )
    unit = (counts[used] / shares[used]).min()
    # the tolerance keeps 3 * (1 / 3) from becoming 0
    wanted = np.floor(unit * shares + 1e-9).astype(int)
    if (wanted[used] == 0).any():
        raise ValueError(
            f"The split is too small for `ratio`={dict(ratio)}: its labels "
            f"count {dict(zip(names, counts.tolist(), strict=True))}, and at "
            "least one label would get no row. Use a milder ratio."
        )
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:number]
        for label, number in enumerate(wanted)
    ]
    return split.take(np.sort(np.concatenate(chosen)))
