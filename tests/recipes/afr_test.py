"""The last layer again, on the samples that the model gets wrong."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.recipes import toy

AFR = kd.recipes.AFR


def accuracy(model, split):
    return kd.evaluate(model, {"test": split})["test"].worst_group_accuracy


def test_weights_are_the_papers():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [1.0, 0.0]])
    y = np.array([0, 1, 0, 1])
    chosen = np.array([0.9, 0.8, 0.5, 0.0])
    expected = np.exp(-3 * chosen) / 2
    found = AFR(gamma=3.0).weights(probabilities, y)
    np.testing.assert_allclose(found, expected / expected.sum())
    # Of one class a single sample, which counts as much as the others.
    plain = AFR(gamma=0.0).weights(probabilities[:3], y[:3])
    np.testing.assert_allclose(plain, [0.25, 0.5, 0.25])
    assert np.isfinite(AFR(gamma=1e5).weights(probabilities, y)).all()


def test_refit_is_the_least_of_loss_and_penalty():
    """Against plain gradient descent on the equations."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((40, 3))
    y = generator.integers(0, 3, 40)
    weights = generator.dirichlet(np.ones(40))
    start = generator.standard_normal((4, 3))
    found = AFR(penalty=0.05).refit(start[:-1], start[-1], features, y, weights)
    inputs = np.concatenate([features, np.ones((40, 1))], axis=1)
    layer = start.copy()
    for _ in range(4000):
        p = np.exp(inputs @ layer)
        p /= p.sum(-1, keepdims=True)
        error = weights[:, None] * (p - np.eye(3)[y])
        layer -= 0.3 * (inputs.T @ error + 2 * 0.05 * (layer - start))
    np.testing.assert_allclose(np.vstack(found), layer, atol=1e-4)


def test_it_lifts_the_worst_group_and_the_penalty_holds_it_back():
    train, test = toy.numbers(1200), toy.numbers(800, strength=0.5, seed=1)
    scores = {}
    for name, recipe in (
        ("plain", kd.recipes.FineTuning()),
        ("AFR", AFR(gamma=6.0, penalty=1e-3)),
        ("held back", AFR(gamma=6.0, penalty=1e3)),
    ):
        trainer = toy.trainer(updates=120)
        scores[name] = accuracy(recipe.fit(trainer, train), test)
    print(scores)
    assert scores["AFR"] > scores["plain"] + 0.2
    assert abs(scores["held back"] - scores["plain"]) < 0.1
    assert 0 < trainer.notes["effective_samples"] <= 240


def test_held_out_samples_are_not_among_those_trained_on(monkeypatch):
    once = toy.numbers(60)
    train = once.take(np.repeat(np.arange(60), 3))
    seen = []

    def features(self, model, split):
        seen.append(split.x)
        return features.original(self, model, split)

    def advance(self, model, split, updates, **kwargs):
        seen.append(split.x)
        return advance.original(self, model, split, updates, **kwargs)

    for function in (features, advance):
        name = function.__name__
        function.original = getattr(kd.recipes.Trainer, name)
        monkeypatch.setattr(kd.recipes.Trainer, name, function)
    AFR().fit(toy.trainer(2), train)
    rest, hard = ({tuple(row) for row in x.tolist()} for x in seen)
    assert not rest & hard
    assert len(rest | hard) == 60


def test_bad_input():
    for settings, match in (
        ({"gamma": -1.0}, "`gamma`"),
        ({"penalty": 0.0}, "`penalty`"),
        ({"held_out": 1.0}, "`held_out`"),
    ):
        with pytest.raises(ValueError, match=match):
            AFR(**settings)
    train = toy.numbers(40)
    few = train.take(
        np.flatnonzero(train.y == 0)[:19].tolist()
        + [int(np.flatnonzero(train.y == 1)[0])]
    )
    with pytest.raises(ValueError, match="samples of every class"):
        AFR().fit(toy.trainer(), few)


@pytest.mark.parametrize("recipe", [AFR(), kd.recipes.DFR()])
def test_one_output_for_two_classes_is_refused_before_training(recipe):
    def build(updates):
        layers = [keras.Input((2,)), keras.layers.Dense(1)]
        network = keras.Sequential(layers)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        network.compile("sgd", loss)
        return network

    trainer = toy.trainer(model_fn=build)
    with pytest.raises(ValueError, match="1 outputs for 2 classes"):
        recipe.fit(trainer, toy.numbers(100, strength=0.7))
    assert trainer.updates == 0
