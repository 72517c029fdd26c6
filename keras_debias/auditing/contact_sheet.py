"""Contact sheets: some images of each group."""

import os
import textwrap

import numpy as np

from keras_debias.auditing.describe_groups import checked_groups
from keras_debias.auditing.fields import field_values
from keras_debias.auditing.fields import is_images
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure

# The width of a sheet, and the height of a line of text, in inches.
WIDTH, LINE = 10.0, 0.3
# The white gap between images, as a share of their size.
GAP = 0.06


def contact_sheet(
    split,
    groups,
    path: str | os.PathLike | None = None,
    *,
    columns: int = 8,
    rows: int = 1,
    seed: int = 0,
):
    """Draws some images of each group, to see what the group has in common.

    Args:
        split: `Split` of images of shape `(n, height, width, channels)`.
        groups: `Groups`, or an array of shape `(n,)` of strings or integers:
            the group of each row.
        path: path of the PNG file to be written. Defaults to `None`: nothing is
            written.
        columns: int, how many images side by side. Defaults to `8`.
        rows: int, how many lines of images for each group. Defaults to `1`.
        seed: int, of the draw of images. Defaults to `0`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is not one group for each row, fewer than two
            groups, or an argument is out of range.
        TypeError: If the split does not hold images. For texts use
            `describe_groups`.

    Example:

    ```python
    kd.auditing.contact_sheet(train, clusters, "clusters.png")
    ```
    """
    groups = checked_groups(split, groups)
    for name, value in (("columns", columns), ("rows", rows)):
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(
                f"Expected `{name}` to be an integer of at least 1. "
                f"Received: {name}={value!r}"
            )
    images = split.x
    if isinstance(images, (dict, tuple)) or not is_images(
        field_values(split, 0)
    ):
        raise TypeError(
            "Expected a split of images, an array of shape `(n, height, "
            f"width, channels)`. Received: {split}. For texts use "
            "`keras_debias.auditing.describe_groups`."
        )
    present = np.flatnonzero(np.bincount(groups.ids))
    height, width = images.shape[1:3]
    strip = rows * WIDTH / columns * height / width
    figure = new_figure(WIDTH, len(present) * (strip + LINE))
    rng = np.random.default_rng(seed)
    axes = figure.subplots(len(present), squeeze=False)[:, 0]
    scale = _scale(images)
    for axis, group in zip(axes, present, strict=True):
        members = np.flatnonzero(groups.ids == group)
        drawn = np.sort(rng.permutation(members)[: rows * columns])
        axis.imshow(_mosaic(images[drawn] / scale, rows, columns))
        axis.set_axis_off()
        axis.set_title(
            textwrap.shorten(groups.names[group], 90)
            + f" ({len(members):,} rows)",
            loc="left",
            fontsize=9,
            color=INK,
            parse_math=False,
        )
    save_figure(figure, path)
    return figure


def _scale(images) -> float:
    if images.dtype.kind == "f" and np.nanmax(images) <= 1.0:
        return 1.0
    return 255.0


def _mosaic(images, rows, columns):
    """One array `(height, width, 3)` of images on white, from 0 to 1."""
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    images = np.clip(images[..., :3], 0.0, 1.0)
    height, width = images.shape[1:3]
    down, right = (size + max(1, round(GAP * size)) for size in (height, width))
    sheet = np.ones((rows * down, columns * right, 3))
    for position, image in enumerate(images):
        row, column = divmod(position, columns)
        top, left = row * down, column * right
        sheet[top : top + height, left : left + width] = image
    return sheet
