"""Groups of images without labels: a background that goes with the class."""

import numpy as np

import keras_debias as kd

WIDTH, CLASSES = 400, 3


def scenes(n, strength, seed=0):
    """A dark or bright square each, on a colored ground that may mislead."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    own = rng.random(n) < strength
    ground = np.where(own, y, (y + rng.integers(1, CLASSES, n)) % CLASSES)
    x = rng.integers(0, 60, (n, 12, 12, 3)).astype("uint8")
    for row in range(n):
        x[row, :, :, ground[row]] += 120
        x[row, 4:8, 4:8] = 40 + 80 * y[row]
    split = kd.data.Split(x, y, label_names=["low", "mid", "high"])
    return split.with_label_groups({"ground": ground})


def features(split):
    """Float32 features wider than what a probe keeps."""
    pixels = split.x.reshape(len(split), -1)[:, :WIDTH]
    return (pixels / 255).astype("float32")


def test_a_shallow_model_reads_images():
    split = scenes(300, strength=0.9)
    model = kd.recipes.ShallowModel()
    found = model.out_of_fold(split.with_groups(None))
    assert found.shape == (300, CLASSES)
    assert np.mean(found.argmax(axis=1) == split.y) > 0.8
    other = scenes(150, strength=0.34, seed=1)
    found = model.predict_proba(split, other)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_a_probe_on_wide_float32_features_has_proper_probabilities():
    split = scenes(480, strength=0.9)
    found = kd.recipes.FrozenProbe(features).out_of_fold(split)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert np.mean(found.argmax(axis=1) == split.y) > 0.8


def noisy_pixels(split):
    """Features in which the square is harder to see than the ground."""
    x = split.x[:, 2:10, 2:10].reshape(len(split), -1) / 255
    return x + 0.3 * np.random.default_rng(0).standard_normal(x.shape)


def test_recommended_balances_a_cue_that_says_all_and_is_not_the_task():
    train = scenes(2000, strength=0.96).with_groups(None)
    found = kd.recommended(train, noisy_pixels)
    assert found.recipe == kd.recipes.BalancedSampling(
        groups=kd.recipes.AuditGroups()
    )
    assert "It is not the task" in found.reason
    assert "hue" in found.evidence["cue"]


def test_recommended_leaves_a_cue_alone_that_is_the_task():
    """The ground is the class, and the square says nothing."""
    rng = np.random.default_rng(0)
    train = scenes(1500, strength=1.0).with_groups(None)
    x = np.array(train.x)
    x[:, 4:8, 4:8] = (
        40 + 80 * rng.integers(0, CLASSES, 1500)[:, None, None, None]
    )
    found = kd.recommended(train._replace(x=x), noisy_pixels)
    assert isinstance(found.recipe, kd.recipes.FineTuning), found.reason
