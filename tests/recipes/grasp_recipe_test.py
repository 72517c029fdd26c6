"""GRASP within a budget: found once or again and again, and controls."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.recipes.grasp_recipe import factor_distance
from keras_debias.recipes.grasp_recipe import join
from tests import planted
from tests.recipes import toy

GRASP = kd.recipes.GRASP


def build(updates):
    network = planted.network()
    kd.adapters.apply(
        network, kd.adapters.LoRA(4, targets=("hidden_*",)), ("logits",)
    )
    network.compile(keras.optimizers.Adam(3e-3), toy.logits_loss())
    return network


def data(strength=0.9, rows=512):
    x, y, direction = planted.table(rows, strength)
    split = kd.data.Split(x, y.astype("int32"))
    factor = (x @ direction > 0).astype(int)
    return split.with_label_groups({"factor": factor}), factor, direction


def test_repeated_until_the_factor_is_no_longer_learned():
    """More directions, less of the factor; the control keeps it."""
    train, factor, direction = data()
    settings = {"factor": "groups", "tolerance": 0.02}
    found = {}
    # All stages of one length.
    for name, updates, recipe in (
        ("once", 60, GRASP(**settings)),
        ("again", 150, GRASP(repeats=4, share=0.8, **settings)),
        ("random", 150, GRASP(repeats=4, share=0.8, random=True, **settings)),
    ):
        trainer = toy.trainer(updates=updates, model_fn=build)
        model = recipe.fit(trainer, train)
        found[name] = trainer.notes["factor_distance"]
        print(name, trainer.notes)
        assert trainer.updates == updates
        directions = model.projections[-1].directions
        stages = len(found[name]) - 1
        assert directions.rank == trainer.notes["directions"] == stages
        if name != "random":
            assert directions.overlap(direction) > 0.7
    assert len(found["again"]) == 5
    np.testing.assert_allclose(
        directions.vectors.T @ directions.vectors, np.eye(4), atol=1e-5
    )
    naive = found["again"][0]
    assert found["again"][-1] < found["again"][1] == found["once"][-1]
    assert found["once"][-1] < 0.6 * naive < found["random"][-1]


def test_the_factor_as_values_as_groups_and_inferred():
    train, factor, _ = data(rows=256)
    distances = []
    for given in (
        "groups",
        factor,
        kd.recipes.XRM(share=0.3, rounds=1),
    ):
        trainer = toy.trainer(updates=30, model_fn=build)
        recipe = GRASP(factor=given, share=0.3)
        recipe.fit(trainer, train)
        distances.append(trainer.notes["factor_distance"])
        assert recipe.needs_groups == isinstance(given, str)
    np.testing.assert_allclose(distances[0], distances[1])
    assert distances[2] != distances[0]


def test_what_is_not_found_is_left_alone():
    """The null: no shortcut, so the factor is not found, nor kept out."""
    train, factor, _ = data(strength=0.5)
    trainer = toy.trainer(updates=60, model_fn=build)
    model = GRASP(factor=factor, repeats=3, tolerance=0.5).fit(trainer, train)
    assert trainer.notes["directions"] == 0
    assert len(trainer.notes["factor_distance"]) == 2
    assert trainer.updates == 60
    assert type(model.projections[0]) is kd.projections.TaskOnly


def test_distance_within_classes():
    y = np.repeat([0, 1], 20)
    factor = np.tile([0, 1], 20)
    p = np.where(factor == 1, 0.7, 0.4) + np.where(y == 1, 0.2, 0.0)
    table = np.stack([1 - p, p], axis=1)
    assert factor_distance(table, y, factor) == pytest.approx(0.3)
    # Values that go with the class alone are no distance.
    table = np.stack([1 - 0.5 * y, 0.5 * y], axis=1)
    assert factor_distance(table, y, factor) == pytest.approx(0.0)


def test_joined_directions():
    first = kd.Directions(np.eye(3)[:, :2])
    second = kd.Directions(np.array([[0.6], [0.0], [0.8]]))
    both = join(first, second)
    np.testing.assert_allclose(abs(both.vectors), np.eye(3), atol=1e-6)
    assert join(both, second) is None
    layers = join(
        kd.Directions({"a": np.eye(3)[:, :1], "b": np.eye(2)}),
        kd.Directions({"a": np.eye(3)[:, 1:2]}),
    )
    assert {p: v.shape for p, v in layers.vectors.items()} == {
        "a": (3, 2),
        "b": (2, 2),
    }


def test_bad_input():
    for settings, match in (
        ({"k": 0}, "`k`"),
        ({"repeats": 1.5}, "`repeats`"),
        ({"side": "input"}, "`side`"),
        ({"scope": "global"}, "`scope`"),
        ({"share": 1.0}, "`share`"),
        ({"tolerance": 0.0}, "`tolerance`"),
        ({"factor": "domain"}, "`factor`"),
    ):
        with pytest.raises(ValueError, match=match):
            GRASP(**settings)
    with pytest.raises(TypeError, match="one value for each"):
        GRASP(factor=3.0)
    train, factor, _ = data(rows=64)
    with pytest.raises(ValueError, match="63 values for 64"):
        GRASP(factor=factor[1:]).fit(toy.trainer(model_fn=build), train)
    with pytest.raises(ValueError, match="two groups within a class"):
        GRASP(factor=train.y).fit(toy.trainer(model_fn=build), train)
