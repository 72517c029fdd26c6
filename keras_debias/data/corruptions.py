"""Corruptions of small images, with the constants of CIFAR-10-C.

Each takes uint8 images of shape `(n, height, width, 3)`, the index of its
strength from 0 to 4 and a `numpy.random.Generator`, and returns as many
images from 0 to 1.
"""

import io

import numpy as np

from keras_debias.data.images import pillow


def _gaussian_noise(images, level, rng):
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[level]
    return images / 255 + scale * rng.standard_normal(images.shape)


def _shot_noise(images, level, rng):
    photons = (500, 250, 100, 75, 50)[level]
    return rng.poisson(images / 255 * photons) / photons


def _impulse_noise(images, level, rng):
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    hit = rng.random(images.shape) < share
    return np.where(hit, rng.integers(0, 2, images.shape), images / 255)


def _speckle_noise(images, level, rng):
    scale = (0.06, 0.1, 0.12, 0.16, 0.2)[level]
    pixels = images / 255
    return pixels + scale * pixels * rng.standard_normal(images.shape)


def _gaussian_blur(images, level, rng):
    from scipy.ndimage import gaussian_filter

    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[level]
    return gaussian_filter(
        images / 255, (0, sigma, sigma, 0), mode="nearest", truncate=4.0
    )


def _contrast(images, level, rng):
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[level]
    pixels = images / 255
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    return (pixels - mean) * factor + mean


def _brightness(images, level, rng):
    """Raises the value of hue, saturation and value."""
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[level]
    pixels = images / 255
    value = pixels.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1.0)
    # Black has no hue, and becomes gray.
    chroma = np.divide(pixels, value, out=np.ones_like(pixels), where=value > 0)
    return chroma * brighter


def _saturate(images, level, rng):
    """Changes the saturation of hue, saturation and value; gray stays."""
    factor, added = (
        (0.3, 0.0),
        (0.1, 0.0),
        (1.5, 0.0),
        (2.0, 0.1),
        (2.5, 0.2),
    )[level]
    pixels = images / 255
    value = pixels.max(axis=-1, keepdims=True)
    missing = value - pixels
    spread = missing.max(axis=-1, keepdims=True)
    saturation = np.divide(
        spread, value, out=np.zeros_like(spread), where=value > 0
    )
    wanted = np.clip(saturation * factor + added, 0.0, 1.0)
    ratio = np.divide(
        wanted, saturation, out=np.ones_like(wanted), where=saturation > 0
    )
    return value - missing * ratio


def _pixelate(images, level, rng):
    Image, *_ = pillow()

    share = (0.95, 0.9, 0.85, 0.75, 0.65)[level]
    height, width = images.shape[1:3]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    box = Image.Resampling.BOX
    found = [
        Image.fromarray(image).resize(small, box).resize((width, height), box)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in found]) / 255


def _jpeg(images, level, rng):
    Image, *_ = pillow()

    quality = (80, 65, 58, 50, 40)[level]
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return np.stack(found) / 255


CORRUPTIONS = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "saturate": _saturate,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
