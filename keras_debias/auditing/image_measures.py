"""Simple measures of images: brightness, contrast, saturation and hue."""

import numpy as np

HUES = (
    "red",
    "orange",
    "yellow",
    "yellow-green",
    "green",
    "spring green",
    "cyan",
    "azure",
    "blue",
    "violet",
    "magenta",
    "rose",
)
# Below this mean difference of the channels a region counts as grey.
LEAST_CHROMA = 0.02
CHUNK = 256
REGIONS = ("", " of the border")
# Measures with many values: their lowest and highest quarters are features.
QUARTERED = tuple(
    name + region
    for name in ("brightness", "contrast", "saturation")
    for region in REGIONS
)


def measures(images: np.ndarray, progress=None) -> dict[str, np.ndarray]:
    """Brightness, contrast, saturation and hue of images, as floats.

    Each of the whole image, and of its border: the outer eighth on every
    side, where backgrounds are.

    Args:
        images: array of shape `(n, height, width, channels)` with one, three
            or four channels (the fourth is left out), integers from 0 to 255
            or floats from 0 to 1 or from 0 to 255.
        progress: function that is called with the number of images after
            each chunk, or `None`.

    Returns:
        Dict from the name of a measure to an array of shape `(n,)`. Hues are
        in units of 30 degrees, from -0.5 to 11.5, 0 being red, and weighted
        by chroma; NaN where there is no color.
        Images of one channel have neither hue nor saturation.
    """
    scale = 255.0
    if images.dtype.kind == "f" and np.nanmax(images) <= 1.0:
        scale = 1.0
    parts = []
    for at in range(0, len(images), CHUNK):
        chunk = images[at : at + CHUNK]
        parts.append(_measure(chunk.astype("float32") / scale))
        if progress is not None:
            progress(len(chunk))
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


def _measure(images):
    height, width = images.shape[1:3]
    border = np.ones((height, width), dtype=bool)
    down, right = -(-height // 8), -(-width // 8)
    border[down : height - down, right : width - right] = False
    regions = {
        REGIONS[0]: images.reshape(len(images), -1, images.shape[-1]),
        REGIONS[1]: images[:, border],
    }
    measured = {}
    for region, pixels in regions.items():
        for name, values in _measure_region(pixels).items():
            measured[name + region] = values
    return measured


def _measure_region(pixels):
    """Measures of pixels `(n, pixels, channels)` from 0 to 1."""
    if pixels.shape[-1] == 1:
        grey = pixels[..., 0]
        return {"brightness": grey.mean(axis=1), "contrast": grey.std(axis=1)}
    red, green, blue = (pixels[..., i] for i in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    # Hue is the angle in the plane across the grey axis.
    x = (2 * red - green - blue) / 2
    y = np.sqrt(3) / 2 * (green - blue)
    x, y = x.mean(axis=1), y.mean(axis=1)
    hue = len(HUES) * np.arctan2(y, x) / (2 * np.pi)
    # The middle of each hue is a whole number; red lies around zero.
    hue = (hue + 0.5) % len(HUES) - 0.5
    hue[np.hypot(x, y) < LEAST_CHROMA] = np.nan
    return {
        "brightness": grey.mean(axis=1),
        "contrast": grey.std(axis=1),
        "saturation": (highest - lowest).mean(axis=1),
        "hue": hue,
    }
