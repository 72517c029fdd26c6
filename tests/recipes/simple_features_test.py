import numpy as np
import pytest

import keras_debias as kd


def accuracy(split):
    found = kd.recipes.SimpleFeatures().out_of_fold(split)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)
    assert found.shape == (len(split), len(split.label_names))
    return np.mean(found.argmax(-1) == split.y)


def shuffled(split):
    labels = np.random.default_rng(0).permutation(split.y)
    return kd.data.Split(split.x, labels, label_names=split.label_names)


def test_colors_of_digits():
    split = kd.data.colored_digits(0.95, "test")
    # As many as have the color of their class, and no more than that.
    assert 0.88 < accuracy(split) < 0.98
    assert accuracy(shuffled(split)) < 0.15


def test_overlap_of_pairs():
    split = kd.data.generated_nli(1500)
    assert accuracy(split) > 0.42
    assert accuracy(shuffled(split)) < 0.39


def test_a_class_without_rows_gets_no_probability():
    split = kd.data.Split(
        ["yes.", "no"] * 20, [0, 2] * 20, label_names=("a", "b", "c")
    )
    found = kd.recipes.SimpleFeatures().out_of_fold(split)
    assert found[:, 1].max() == 0.0
    assert (found.argmax(-1) == split.y).all()


def test_bad_input():
    with pytest.raises(ValueError, match="folds=1"):
        kd.recipes.SimpleFeatures(folds=1)
    with pytest.raises(ValueError, match="C=0"):
        kd.recipes.SimpleFeatures(C=0)
    split = kd.data.Split(["a", "b", "c"], [0, 0, 1])
    with pytest.raises(ValueError, match="a class with 1"):
        kd.recipes.SimpleFeatures().out_of_fold(split)


def test_config():
    bias = kd.recipes.SimpleFeatures(C=0.5)
    assert kd.recipes.SimpleFeatures.from_config(bias.get_config()) == bias
