"""Corrupted images: against other implementations, and who gets which."""

import io

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

import keras_debias as kd
from keras_debias.data.corruptions import CORRUPTIONS
from keras_debias.data.split import Split

CLASSES = 10


def images(n, size=16, seed=0):
    """Smooth colored images, so that no corruption leaves them as they are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (n, 4, 4, 3), dtype="uint8")
    return np.stack(
        [
            np.asarray(
                Image.fromarray(c).resize(
                    (size, size), Image.Resampling.BICUBIC
                )
            )
            for c in coarse
        ]
    )


def split_of(n, size=16):
    return Split(images(n, size), np.arange(n) % CLASSES)


def one(name, x, severity):
    """All images corrupted by `name`, which is that of class 0."""
    others = [other for other in CORRUPTIONS if other != name]
    split = Split(x, np.zeros(len(x), int), label_names=["a", "b"])
    return kd.data.corrupted(split, 1.0, severity, [name, others[0]]).x


@pytest.mark.parametrize("severity", [1, 4, 5])
def test_noise_has_the_published_strength(severity):
    gray = np.full((40, 32, 32, 3), 128, "uint8")
    expected = {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "speckle_noise": [c * 128 / 255 for c in (0.06, 0.1, 0.12, 0.16, 0.2)],
        # Of a Poisson distribution.
        "shot_noise": [np.sqrt(128 / 255 / c) for c in (500, 250, 100, 75, 50)],
    }
    for name, scales in expected.items():
        found = one(name, gray, severity) / 255
        assert found.mean() == pytest.approx(128 / 255, abs=0.003)
        assert found.std() == pytest.approx(scales[severity - 1], rel=0.04)
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    found = one("impulse_noise", gray, severity)
    for value in (0, 255):
        assert (found == value).mean() == pytest.approx(share / 2, rel=0.1)
    assert set(np.unique(found)) == {0, 128, 255}


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_colors_agree_with_matplotlib(severity):
    x = images(8)
    x[0, :2] = 0
    hsv = matplotlib.colors.rgb_to_hsv(x / 255)
    brighter = hsv.copy()
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    brighter[..., 2] = np.minimum(hsv[..., 2] + added, 1)
    expected = matplotlib.colors.hsv_to_rgb(brighter) * 255
    np.testing.assert_allclose(
        one("brightness", x, severity), expected, atol=0.51
    )
    x = images(8, seed=1)
    hsv = matplotlib.colors.rgb_to_hsv(x / 255)
    factors = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
    factor, added = factors[severity - 1]
    # Gray has no hue, and stays gray.
    colored = hsv[..., 1] > 0
    hsv[..., 1] = np.where(
        colored, np.clip(hsv[..., 1] * factor + added, 0, 1), 0
    )
    expected = matplotlib.colors.hsv_to_rgb(hsv) * 255
    np.testing.assert_allclose(
        one("saturate", x, severity), expected, atol=0.51
    )


def test_contrast_blur_pixels_and_jpeg():
    x = images(4, size=32)
    mean = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(
        one("contrast", x, 4), (x - mean) * 0.3 + mean, atol=0.51
    )
    # A point spreads to a Gaussian of the published width.
    point = np.zeros((1, 33, 33, 3), "uint8")
    point[0, 16, 16] = 255
    at = np.arange(33) - 16
    line = np.exp(-0.5 * (at / 1.0) ** 2)
    line[abs(at) > 4] = 0
    line /= line.sum()
    np.testing.assert_allclose(
        one("gaussian_blur", point, 5)[0, :, :, 1],
        255 * np.outer(line, line),
        atol=0.51,
    )
    # 32 x .65 = 20 blocks a side: equal neighbours where one was repeated.
    pixelated = one("pixelate", x, 5).astype(int)
    distinct = {tuple(row) for row in pixelated[0].reshape(32, -1)}
    assert len(distinct) > 1
    assert np.abs(pixelated - x).mean() > 1
    file = io.BytesIO()
    Image.fromarray(x[2]).save(file, "JPEG", quality=50)
    np.testing.assert_array_equal(
        one("jpeg", x, 4)[2], np.asarray(Image.open(file))
    )


def test_each_is_stronger_at_a_higher_severity():
    x = images(20, size=32)
    for name in CORRUPTIONS:
        if name == "saturate":
            continue  # Weak ones lower the saturation, strong ones raise it.
        weak, strong = (
            np.abs(one(name, x, severity).astype(int) - x).mean()
            for severity in (1, 5)
        )
        assert 0 < weak < strong, name


def test_the_corruption_goes_with_the_class():
    split = split_of(2000)
    found = kd.data.corrupted(split, 0.9, by_corruption=True)
    table = np.zeros((CLASSES, CLASSES))
    names = list(CORRUPTIONS)
    for group, count in found.groups.counts().items():
        label, name = group.removeprefix("label=").split(", corruption=")
        table[int(label), names.index(name)] = count
    share = np.trace(table) / 2000
    # Four standard deviations of a binomial.
    assert abs(share - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 2000)
    others = table[~np.eye(CLASSES, dtype=bool)]
    # Equally likely: chi-squared of 89 degrees of freedom.
    expected = others.mean()
    assert abs(((others - expected) ** 2 / expected).sum() - 89) < 4 * 13.4
    own = kd.data.corrupted(split, 0.9)
    np.testing.assert_array_equal(own.x, found.x)
    assert len(own.groups.names) == 2 * CLASSES
    counts = own.groups.counts()
    yes = sum(n for g, n in counts.items() if g.endswith("corruption=yes"))
    assert yes == np.trace(table)
    # The groups say what happened to the pixels: JPEG is deterministic.
    rows = np.array(found.groups.names)[found.groups.ids]
    row = next(i for i, g in enumerate(rows) if g.endswith("=contrast"))
    x = split.x[row].astype(float)
    mean = x.mean(axis=(0, 1))
    np.testing.assert_allclose(found.x[row], (x - mean) * 0.3 + mean, atol=0.51)


def test_at_one_in_ten_the_corruption_says_nothing():
    found = kd.data.corrupted(split_of(3000), 0.1, by_corruption=True)
    counts = np.array(list(found.groups.counts().values()))
    assert len(counts) == 100
    # Chi-squared of 90 degrees of freedom: mean 90, deviation 13.4.
    assert abs(((counts - 30) ** 2 / 30).sum() - 90) < 4 * 13.4


def test_seeds_rows_and_the_original():
    split = split_of(60)
    before = split.x.copy()
    first, again, other = (
        kd.data.corrupted(split, 0.5, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    np.testing.assert_array_equal(split.x, before)
    np.testing.assert_array_equal(first.y, split.y)
    assert first.x.dtype == "uint8"


def test_bad_input():
    split = split_of(20)
    with pytest.raises(ValueError, match="uint8 images.*Convert floats"):
        kd.data.corrupted(Split(split.x / 255, split.y), 0.9)
    with pytest.raises(ValueError, match="uint8 images"):
        kd.data.corrupted(Split(["a", "b"], [0, 1]), 0.9)
    with pytest.raises(ValueError, match="correlation=1.5"):
        kd.data.corrupted(split, 1.5)
    with pytest.raises(ValueError, match="severity=0"):
        kd.data.corrupted(split, 0.9, severity=0)
    with pytest.raises(ValueError, match="different names.*'snow'"):
        kd.data.corrupted(split, 0.9, corruptions=["snow"])
    with pytest.raises(ValueError, match="10 classes, 2 corruptions"):
        kd.data.corrupted(split, 0.9, corruptions=["jpeg", "contrast"])
    with pytest.raises(ValueError, match="1 classes"):
        kd.data.corrupted(Split(split.x, [0] * 20), 0.9)
