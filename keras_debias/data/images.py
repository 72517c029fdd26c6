"""Reads images from files and tables into one uint8 array."""

import io
from collections.abc import Sequence

import numpy as np


def check_image_size(image_size) -> tuple[int, int]:
    """Returns `image_size` as height and width, or raises."""
    sizes = tuple(image_size) if np.iterable(image_size) else (image_size,)
    if len(sizes) != 2 or any(
        not isinstance(size, (int, np.integer)) or size < 1 for size in sizes
    ):
        raise ValueError(
            "Expected `image_size` to be two positive integers, height and "
            f"width. Received: image_size={image_size!r}"
        )
    return sizes


def pillow() -> tuple:
    """Pillow's `Image`, `ImageOps` and error of unknown files, or raises."""
    try:
        from PIL import Image
        from PIL import ImageOps
        from PIL import UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            "Expected the package `pillow`, which reads images, to be "
            "installed. Received: no such package. Install it with "
            '`pip install "keras-debias[images]"`.'
        ) from error
    return Image, ImageOps, UnidentifiedImageError


def fitted(image, image_size: tuple[int, int]):
    """The middle of a Pillow image, resized to height and width."""
    Image, ImageOps, _ = pillow()
    height, width = image_size
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def decode_images(
    values: Sequence, image_size: tuple[int, int] | None, name: str
) -> np.ndarray:
    """Decodes images to RGB.

    Args:
        values: sequence of encoded files (bytes), or of Pillow images.
        image_size: tuple of two ints, height and width: the largest part of
            this shape is cut out of the middle and resized. `None`: all
            images must be of one size, which is kept.
        name: string, the set's name, for errors.

    Returns:
        A uint8 array of shape `(n, height, width, 3)`.

    Raises:
        ValueError: If a value is not an image, or sizes differ and no
            `image_size` is given.
    """
    Image, _, UnidentifiedImageError = pillow()
    if image_size is not None:
        check_image_size(image_size)
    images = None
    for row, value in enumerate(values):
        try:
            image = value
            if not isinstance(value, Image.Image):
                image = Image.open(io.BytesIO(value))
            image = image.convert("RGB")
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise ValueError(
                f"Expected every row of {name!r} to contain the bytes of an "
                f"image file. Received in row {row}: {error}"
            ) from error
        if image_size is not None:
            image = fitted(image, image_size)
        pixels = np.asarray(image)
        if images is None:
            images = np.empty((len(values), *pixels.shape), "uint8")
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"Expected all images of {name!r} to have the size of the "
                f"first, {images.shape[1:3]}. Received in row {row}: "
                f"{pixels.shape[:2]}. Pass `image_size=(height, width)` to "
                "resize them."
            )
        images[row] = pixels
    return images
