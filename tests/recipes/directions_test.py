"""Ablation and truncation as recipes: what they change, and for whom."""

import numpy as np
import pytest

import keras_debias as kd
from keras_debias.analysis.kernel_updates import model_updates
from tests.recipes import toy
from tests.recipes.grasp_recipe_test import build
from tests.recipes.grasp_recipe_test import data

R = kd.recipes
# Of the planted network: all that reads the residual stream.
READERS = ("hidden_*", "logits")


def fitted(recipe, updates=60, train=None):
    trainer = toy.trainer(updates=updates, model_fn=build)
    train = data()[0] if train is None else train
    return recipe.fit(trainer, train), trainer


def moved(model, rows):
    """How far outputs move when the planted factor does."""
    _, _, direction = data()
    x = rows.x
    flipped = x - 2 * np.outer(x @ direction, direction).astype("float32")
    first, second = (
        model.predict(x, verbose=0),
        model.predict(flipped, verbose=0),
    )
    return float(np.abs(first - second).mean())


def test_ablated_models_do_not_see_the_planted_factor():
    """Both ways find the direction and lose it; random ones keep it."""
    train, _, direction = data()
    found = {}
    for name, recipe in (
        ("plain", R.FineTuning()),
        ("training", R.Ablation(readers=READERS)),
        ("inference", R.Ablation(when="inference", readers=READERS)),
        (
            "random",
            R.Ablation(when="inference", random=True, readers=READERS),
        ),
    ):
        model, trainer = fitted(recipe, train=train)
        found[name] = moved(model, train)
        assert trainer.updates == 60
        if name != "plain":
            assert trainer.notes["directions"] == 1
    assert found["training"] < 0.5 * found["plain"]
    assert found["inference"] < 0.5 * found["plain"]
    assert found["random"] > 0.5 * found["plain"]


def test_steering_is_ablation_of_the_plain_model():
    plain, _ = fitted(R.FineTuning())
    steered, _ = fitted(R.Ablation(k=2, when="inference"))
    directions = kd.analysis.latent_factors(plain, 2).directions
    kd.analysis.ablate(plain, directions)
    x = data()[0].x[:20]
    np.testing.assert_allclose(
        steered.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-5
    )


def test_truncation_keeps_the_leading_components():
    """Of an update of rank 4, by NumPy's decomposition of the product."""
    plain, _ = fitted(R.FineTuning())
    cut, trainer = fitted(R.Truncation(k=1))
    assert set(trainer.notes["components"].values()) == {1}
    base = build(1)
    before = model_updates(kd.adapters.merge(plain.model), base=merged(base))
    after = model_updates(kd.adapters.merge(cut.model), base=merged(build(1)))
    for path in trainer.notes["components"]:
        u, s, vt = np.linalg.svd(whole(before[path]), full_matrices=False)
        np.testing.assert_allclose(
            whole(after[path]), s[0] * np.outer(u[:, 0], vt[0]), atol=1e-5
        )


def merged(network):
    return kd.adapters.merge(network)


def whole(update):
    p, q = update
    return p if q is None else p @ q


def test_compare_takes_them(tmp_path):
    train = data(rows=120)[0].with_groups(None)
    comparison = kd.compare(
        {"ablation": R.Ablation(), "truncation": R.Truncation()},
        train,
        {"test": train},
        model_fn=build,
        budget=R.Budget(updates=4, batch_size=16),
        seeds=(0,),
        verbose=0,
    )
    assert [run.method for run in comparison.runs] == ["ablation", "truncation"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: R.Ablation(k=0), "positive integer"),
        (lambda: R.Ablation(when="later"), "`when` to be one of"),
        (lambda: R.Ablation(side="up"), "`side` to be one of"),
        (lambda: R.Ablation(share=1), "`share` between 0 and 1"),
        (lambda: R.Truncation(k=1, energy=0.5), "either `k` or `energy`"),
        (lambda: R.Truncation(keep="middle"), "`keep` to be one of"),
    ],
)
def test_bad_settings(make, match):
    with pytest.raises(ValueError, match=match):
        make()
