"""`corrupted`: image corruptions that are correlated with the class."""

from collections.abc import Sequence

import numpy as np

from keras_debias.data.bias_injection import check_probability
from keras_debias.data.checks import class_labels
from keras_debias.data.corruptions import CORRUPTIONS
from keras_debias.data.image_files import ImageFiles
from keras_debias.data.split import Split

SEVERITIES = range(1, 6)


def corrupted(
    split: Split,
    correlation: float,
    severity: int = 4,
    corruptions: Sequence[str] | None = None,
    seed: int = 0,
    by_corruption: bool = False,
) -> Split:
    """Corrupts each image, mostly by the corruption of its class.

    Each class has a corruption of its own: the first class the first of
    `corruptions`, and so on. An image gets it with probability
    `correlation`, and otherwise one of the other classes' corruptions, all
    equally likely: these are the conflicting rows. At a correlation of one
    over the number of classes the corruption says nothing about the class.

    The strengths are those published for images of 32 x 32 pixels. On larger
    images the same blur, noise and pixelation hide less.

    Args:
        split: `Split` of uint8 images of shape `(n, height, width, 3)` with
            one integer label a row.
        correlation: float from 0 to 1, P(own corruption).
        severity: int from 1 (weak) to 5. Defaults to `4`.
        corruptions: sequence of different strings, at least one for each
            class: `"gaussian_noise"`, `"shot_noise"`, `"impulse_noise"`,
            `"speckle_noise"`, `"gaussian_blur"`, `"contrast"`,
            `"brightness"`, `"saturate"`, `"pixelate"` and `"jpeg"`. Defaults
            to `None`: all ten, in this order.
        seed: int; the same seed corrupts the same rows in the same way.
            Defaults to `0`.
        by_corruption: bool. Whether groups are label x corruption, rather
            than label x whether the corruption is the class's own. Defaults
            to `False`.

    Returns:
        A `Split` of uint8 images in the order of `split`, with groups such
        as `"label=cat, own corruption=no"`.

    Raises:
        ValueError: If the inputs are not such images, an argument is out of
            range, or there are fewer corruptions than classes.
        TypeError: If `split` is not a `Split`.

    Example:

    ```python
    cifar10 = kd.data.load("cifar10", "train")
    train = kd.data.corrupted(cifar10, 0.95)
    test = kd.data.corrupted(kd.data.load("cifar10", "test"), 0.1)
    ```

    Reference:

    - Corruptions and their strengths: [Hendrycks and Dietterich, 2019](
      https://arxiv.org/abs/1903.12261); one for each class: [Nam et al.,
      2020](https://arxiv.org/abs/2007.02561), who also use snow, frost, fog
      and others, which need image files or longer code.
    """
    correlation = check_probability(correlation, "correlation")
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `Split`. Received: "
            f"{type(split).__name__}"
        )
    labels = class_labels(split, "`corrupted`")
    images = split.x
    if isinstance(images, ImageFiles):
        images = images[:]
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 4
        and images.shape[-1] == 3
    ):
        raise ValueError(
            "Expected a split of uint8 images of shape (n, height, width, 3) "
            f"with pixels from 0 to 255. Received: {split!r}. Convert floats "
            "from 0 to 1 with `(255 * x).round().astype('uint8')`."
        )
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(
            "Expected `severity` to be an integer from 1 to 5. Received: "
            f"severity={severity!r}"
        )
    classes = len(split.label_names or range(int(labels.max()) + 1))
    if labels.min() < 0:
        raise ValueError(
            "Expected labels from 0 up, one class each. Received: the label "
            f"{labels.min()}"
        )
    names = _check_names(corruptions, classes)

    rng = np.random.default_rng(seed)
    own = rng.random(len(labels)) < correlation
    shift = rng.integers(1, classes, len(labels))
    drawn = np.where(own, labels, (labels + shift) % classes)
    result = np.empty_like(images)
    for number, name in enumerate(names):
        rows = np.flatnonzero(drawn == number)
        if not len(rows):
            continue
        # In chunks: noise needs eight times the memory of the images.
        for chunk in np.array_split(rows, -(-len(rows) // 1024)):
            pixels = CORRUPTIONS[name](images[chunk], int(severity) - 1, rng)
            pixels = np.clip(pixels, 0.0, 1.0) * 255
            result[chunk] = np.rint(pixels).astype("uint8")
    if by_corruption:
        attribute = {"corruption": [names[number] for number in drawn]}
    else:
        attribute = {"own corruption": own}
    return Split(
        result,
        split.y,
        label_names=split.label_names,
        sample_weight=split.sample_weight,
        name=split.name,
    ).with_label_groups(attribute)


def _check_names(corruptions, classes: int) -> tuple[str, ...]:
    names = tuple(CORRUPTIONS)
    if corruptions is not None:
        if isinstance(corruptions, str):
            corruptions = (corruptions,)
        names = tuple(corruptions)
    wrong = [name for name in names if name not in CORRUPTIONS]
    if wrong or len(set(names)) < len(names):
        raise ValueError(
            "Expected `corruptions` to be different names of "
            f"{tuple(CORRUPTIONS)}. Received: corruptions={names}"
        )
    if classes < 2 or len(names) < classes:
        raise ValueError(
            "Expected at least two classes, and a corruption for each. "
            f"Received: {classes} classes, {len(names)} corruptions. Keep "
            "fewer classes, or name more corruptions."
        )
    return names[:classes]
