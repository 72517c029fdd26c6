"""The Waterbirds images, in their published layout."""

import os
import pathlib

import numpy as np
import pandas as pd

from keras_debias.data.images import check_image_size
from keras_debias.data.images import pillow
from keras_debias.data.split import Split

SPLITS = {"train": 0, "validation": 1, "test": 2}
BIRDS = ("landbird", "waterbird")
PLACES = ("land", "water")
COLUMNS = ("img_filename", "y", "split", "place")
# The published test transform: resize to 256, cut 224 out of the middle.
MARGIN = 256 / 224


def waterbirds(
    folder: str | os.PathLike,
    split: str = "train",
    image_size: tuple[int, int] = (224, 224),
) -> Split:
    """Reads a split of Waterbirds: birds on misleading backgrounds.

    The images are resized to 256/224 of `image_size`, without keeping their
    aspect ratio, and the middle is cut out, as in the published test
    transform. They are stored as bytes: the 4,795 training images of 224 x 224
    take 0.7 GB of memory. Add augmentation as layers of the model.

    Args:
        folder: path of the published folder, with `metadata.csv` (columns
            `img_filename`, `y`, `split`, `place`) and the images that it
            names.
        split: string, `"train"`, `"validation"` or `"test"`. Defaults to
            `"train"`.
        image_size: tuple of two ints, height and width. Defaults to
            `(224, 224)`.

    Returns:
        A `Split` named `"waterbirds"` of uint8 images of shape `(height,
        width, 3)`, the labels landbird and waterbird, and groups such as
        `"label=waterbird, place=land"`.

    Raises:
        ValueError: If the folder has no metadata, the metadata are not of
            this layout, `split` is unknown or empty, or an image is not
            there.
        TypeError: If `folder` is not a path.

    Example:

    ```python
    train = kd.data.waterbirds("waterbird_complete95_forest2water2")
    classifier = keras_hub.models.ImageClassifier.from_preset(
        "resnet_18_imagenet", num_classes=2
    )
    ```

    Reference:

    - [Sagawa et al., 2020](https://arxiv.org/abs/1911.08731).
    """
    if split not in SPLITS:
        raise ValueError(
            f"Expected `split` to be one of {tuple(SPLITS)}. Received: "
            f"split={split!r}"
        )
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(
            f"Expected `folder` to be a path. Received: folder={folder!r}"
        )
    height, width = check_image_size(image_size)
    folder = pathlib.Path(folder)
    metadata = _metadata(folder)
    metadata = metadata[metadata["split"] == SPLITS[split]]
    if not len(metadata):
        raise ValueError(
            f"Expected rows with split={SPLITS[split]} ({split!r}) in "
            f"{folder / 'metadata.csv'}. Received: none"
        )
    paths = [folder / name for name in metadata["img_filename"]]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            "Expected every image that the metadata name. Received: "
            f"{len(missing)} of {len(paths)} are not there, the first at "
            f"{missing[0]}. Unpack the whole archive."
        )
    images = np.empty((len(paths), height, width, 3), dtype="uint8")
    for row, path in enumerate(paths):
        images[row] = _read(path, height, width)
    place = pd.Categorical.from_codes(metadata["place"], list(PLACES))
    return Split(
        images,
        metadata["y"].to_numpy(),
        label_names=BIRDS,
        name="waterbirds",
    ).with_label_groups({"place": place})


def _metadata(folder) -> pd.DataFrame:
    path = folder / "metadata.csv"
    if not path.is_file():
        raise ValueError(
            "Expected the published Waterbirds folder, with a file "
            f"`metadata.csv`. Received: folder={str(folder)!r}, which has "
            "none. Unpack `waterbird_complete95_forest2water2.tar.gz`."
        )
    metadata = pd.read_csv(path)
    absent = [name for name in COLUMNS if name not in metadata]
    if absent:
        raise ValueError(
            f"Expected the columns {COLUMNS} in {path}. Received: "
            f"{tuple(metadata.columns)}, without {absent}"
        )
    for name, allowed in (
        ("y", (0, 1)),
        ("place", (0, 1)),
        ("split", range(3)),
    ):
        if not metadata[name].isin(allowed).all():
            raise ValueError(
                f"Expected `{name}` to be one of {tuple(allowed)} in {path}. "
                f"Received: {sorted(set(metadata[name]) - set(allowed))[:5]}"
            )
    return metadata


def _read(path, height, width) -> np.ndarray:
    Image, *_ = pillow()
    above, left = (round(s * (MARGIN - 1) / 2) for s in (height, width))
    with Image.open(path) as image:
        larger = image.convert("RGB").resize(
            (width + 2 * left, height + 2 * above), Image.Resampling.BILINEAR
        )
    return np.asarray(larger)[above : above + height, left : left + width]
