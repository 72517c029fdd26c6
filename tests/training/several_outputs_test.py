"""Several inputs and outputs, against Keras' own `fit` and its logs."""

import keras
import numpy as np
import pytest

import keras_debias as kd

RNG = np.random.default_rng(0)
A = RNG.normal(size=(8, 3)).astype("float32")
B = RNG.normal(size=(8, 2)).astype("float32")
LABELS = RNG.integers(0, 2, 8)
NUMBERS = RNG.normal(size=(8, 1)).astype("float32")


def network(several):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    hidden = keras.layers.Dense(4)(keras.layers.Concatenate()([a, b]))
    one = keras.layers.Dense(2, name="one")(hidden)
    two = keras.layers.Dense(1, name="two")(hidden)
    return keras.Model([a, b], [one, two] if several else one)


def entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def cases():
    return {
        "inputs": (LABELS, {"loss": entropy(), "metrics": ["accuracy"]}),
        "lists": (
            [LABELS, NUMBERS],
            {
                "loss": [entropy(), "mse"],
                "loss_weights": [1.0, 0.5],
                "metrics": [["accuracy"], ["mae"]],
            },
        ),
        "names": (
            [LABELS, NUMBERS],
            {"loss": {"one": entropy(), "two": "mse"}},
        ),
    }


@pytest.mark.parametrize("case", cases())
def test_logs_are_those_of_keras(case):
    histories = []
    for wrapped in (False, True):
        y, options = cases()[case]
        model = network(case != "inputs")
        if wrapped:
            model = kd.DebiasedModel(model, seed=0)
        model.compile(keras.optimizers.SGD(0.1), **options)
        history = model.fit(
            [A, B],
            y,
            batch_size=8,
            epochs=2,
            shuffle=False,
            validation_data=([A, B], y),
            verbose=0,
        )
        histories.append(history.history)
    expected, found = histories
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    if case != "inputs":
        assert {"one_loss", "val_two_loss"} <= set(found)


def test_the_weights_of_outputs_come_with_the_networks_own_loss():
    y = [LABELS, NUMBERS]
    plain = network(True)
    plain.compile("sgd", [entropy(), "mse"], loss_weights=[0.25, 0.0])
    expected = plain.evaluate([A, B], y, verbose=0)
    model = kd.DebiasedModel(plain, seed=0)
    model.compile()
    found = model.evaluate([A, B], y, verbose=0)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[0] == pytest.approx(0.25 * found[1], rel=1e-5)
    model.compile(loss_weights=[1.0, 0.0])
    found = model.evaluate([A, B], y, verbose=0)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("form", [list, dict])
@pytest.mark.parametrize(
    "projection", [None, kd.projections.EDGE(alpha=0.0)], ids=["plain", "EDGE"]
)
def test_one_loss_for_all_outputs(form, projection):
    """With `alpha=0`, EDGE is the task's gradient in two objectives."""
    y = {"one": LABELS, "two": 1 - LABELS}
    y = list(y.values()) if form is list else y
    found = []
    for wrapped in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(4, activation="tanh")(inputs)
        outputs = {n: keras.layers.Dense(2, name=n) for n in ("one", "two")}
        outputs = {n: layer(hidden) for n, layer in outputs.items()}
        outputs = list(outputs.values()) if form is list else outputs
        model = network = keras.Model(inputs, outputs)
        if wrapped:
            model = kd.DebiasedModel(network, projection, seed=0)
        model.compile(keras.optimizers.SGD(0.1), entropy())
        model.fit(A, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        found.append(network.get_weights())
    for expected, weight in zip(*found, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)
