"""Logits or probabilities: of the model, never of the values."""

import keras
import numpy as np
import pytest

from keras_debias.data import Split
from keras_debias.evaluation import evaluate
from keras_debias.evaluation import reliance
from keras_debias.evaluation.outputs import are_logits
from keras_debias.evaluation.outputs import probabilities
from keras_debias.evaluation.outputs import warn_of_loss

Sparse = keras.losses.SparseCategoricalCrossentropy
Binary = keras.losses.BinaryCrossentropy


def network(activation=None, loss=None, units=2):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, activation=activation)]
    )
    if loss is not None:
        model.compile("sgd", loss)
    return model


@pytest.mark.parametrize(
    ("activation", "loss", "expected"),
    [
        (None, Sparse(from_logits=True), True),
        ("softmax", Sparse(), False),
        ("softmax", "sparse_categorical_crossentropy", False),
        ("sigmoid", None, False),
        (None, None, True),
        (None, "mse", False),
        (None, "hinge", True),
        (None, keras.losses.sparse_categorical_crossentropy, False),
        # What leaves the model is what its last layer makes.
        ("softmax", Sparse(from_logits=True), False),
        ("tanh", None, None),
    ],
)
def test_what_decides(activation, loss, expected):
    model = network(activation, loss)
    assert are_logits(model) is expected
    assert are_logits(model, not expected) is not expected


@pytest.mark.parametrize(
    ("activation", "loss", "message"),
    [
        ("softmax", Sparse(from_logits=True), "second softmax"),
        ("sigmoid", Binary(from_logits=True), "second sigmoid"),
        (None, "sparse_categorical_crossentropy", "from_logits=True"),
        (None, "binary_crossentropy", "from_logits=True"),
    ],
)
def test_loss_and_activation_that_do_not_fit(activation, loss, message):
    with pytest.warns(UserWarning, match=message):
        warn_of_loss(network(activation, loss))


def test_loss_and_activation_that_fit():
    for activation, loss in (
        ("softmax", "sparse_categorical_crossentropy"),
        (None, Sparse(from_logits=True)),
        (None, "mse"),
        ("tanh", "hinge"),
        (None, None),
    ):
        warn_of_loss(network(activation, loss))


class Logits:
    """One logit a row, which may lie in [0, 1]."""

    def __init__(self, values):
        self.values = values

    def predict(self, x, batch_size=None, verbose=0):
        return self.values[np.asarray(x)][:, None]


def test_logits_in_the_unit_range():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.3, 0.35, 500)
    y = (rng.random(500) < 0.8).astype(int)
    rows = np.arange(500)
    inside = rows[(logits >= 0) & (logits <= 1)]
    whole = Split(rows, y)
    with pytest.raises(ValueError, match="Pass `from_logits=True`"):
        evaluate(Logits(logits), whole)
    options = dict(from_logits=True)
    found = evaluate(Logits(logits), whole, **options)
    part = evaluate(Logits(logits), whole.take(inside), **options)
    assert found["test"].accuracy == np.mean((logits > 0) == y)
    assert part["test"].accuracy == np.mean((logits > 0)[inside] == y[inside])
    named = Split(rows, y, label_names=("no", "yes"))
    for kind in (
        {"label_names": ("no", "yes")},
        {"sum_probabilities": True},
    ):
        with pytest.raises(ValueError, match="logits or probabilities"):
            evaluate(Logits(logits), named, **kind)


def test_multi_hot_labels_and_reliance_need_to_know():
    class Two:
        def predict(self, x, batch_size=None, verbose=0):
            return np.full((len(x), 2), 0.2)

    several = Split(["a", "b"], np.array([[1.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="logits or probabilities"):
        evaluate(Two(), several)
    assert evaluate(Two(), several, from_logits=True)["test"].accuracy == 0.5
    single = Split(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="logits or probabilities"):
        reliance(Two(), single, single, 0)
    assert reliance(Two(), single, single, 0, from_logits=False).flipped == 0


def test_probabilities_that_are_none():
    with pytest.raises(ValueError, match="outputs from -1 to 3"):
        probabilities(np.array([[-1.0, 3.0]]), False)
    found = probabilities(np.array([0.0, 2.0]), True)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp([0.0, -2.0])))


class Fixed:
    """Returns the same outputs for whatever it is given."""

    def __init__(self, outputs):
        self.outputs = np.asarray(outputs)

    def predict(self, x, batch_size=None, verbose=0):
        return self.outputs[: len(x)]


def two_orders():
    y = ["no", "yes"] * 10
    x = [f"text {i}" for i in range(20)]
    return {
        "a": Split(x, y),
        "b": Split(x, y, label_names=["yes", "no"]),
    }


def test_splits_that_name_outputs_in_two_orders():
    """Each split by its own order would be right once and wrong once."""
    model = Fixed(np.eye(2)[[0, 1] * 10])
    with pytest.raises(ValueError, match="one order of the model's outputs"):
        evaluate(model, two_orders())
    found = evaluate(
        model, two_orders(), label_names=["no", "yes"], bootstrap=0
    )
    assert [split.accuracy for split in found] == [1.0, 1.0]
    model.label_names = ("yes", "no")
    found = evaluate(model, two_orders(), bootstrap=0)
    assert [split.accuracy for split in found] == [0.0, 0.0]
    with pytest.warns(UserWarning, match="in another order than the model"):
        evaluate(model, two_orders(), label_names=["no", "yes"], bootstrap=0)


def test_names_of_classes_are_no_scores():
    model = Fixed(["no", "yes"] * 10)
    with pytest.raises(TypeError, match="a model that returns class scores"):
        evaluate(model, two_orders()["a"])
