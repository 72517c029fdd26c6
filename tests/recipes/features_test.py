"""CNC and DFA: objectives on features, against NumPy, and what they do."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.features.cut_at_head import cut_at_head
from keras_debias.losses import CorrectNContrast
from keras_debias.losses import FeatureSwap
from tests.recipes import toy

ROWS, WIDTH, CLASSES = 10, 4, 3


def losses(y_true, y_pred):
    return toy.logits_loss().call(y_true, y_pred)


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def cross_entropy(y, logits):
    logits = logits - logits.max(-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logp[np.arange(len(y)), y]


def batch(width, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, CLASSES, ROWS).astype("int32")
    outputs = generator.standard_normal((ROWS, width)).astype("float32")
    return y, outputs, generator


@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
def test_contrast_is_that_of_the_equations(temperature):
    y, outputs, generator = batch(WIDTH + CLASSES)
    guesses = generator.integers(0, CLASSES, 30).astype("int32")
    index = generator.permutation(30)[:ROWS].astype("int32")
    objective = CorrectNContrast(guesses, WIDTH, 0.6, temperature)
    values = objective.call(
        ops.convert_to_tensor(y),
        ops.convert_to_tensor(outputs),
        losses,
        None,
        ops.convert_to_tensor(index),
    )
    z = outputs[:, :WIDTH].astype("float64")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    own = guesses[index]
    contrast, anchors = np.zeros(ROWS), 0
    for i in range(ROWS):
        positive = [j for j in range(ROWS) if y[j] == y[i] and own[j] != own[i]]
        negative = [j for j in range(ROWS) if y[j] != y[i] and own[j] == own[i]]
        if not positive or not negative:
            continue
        anchors += 1
        e = np.exp(z @ z[i] / temperature)
        total = e[positive].sum() + e[negative].sum()
        contrast[i] = -np.mean(np.log(e[positive] / total))
    assert 0 < anchors < ROWS
    plain = cross_entropy(y, outputs[:, WIDTH:].astype("float64"))
    expected = 0.6 * contrast * ROWS / anchors + 0.4 * plain
    np.testing.assert_allclose(array(values), expected, rtol=2e-5, atol=1e-5)


def test_a_batch_without_anchors_has_the_loss_alone():
    y, outputs, _ = batch(WIDTH + CLASSES)
    objective = CorrectNContrast(y, WIDTH, 0.6)
    values = objective.call(
        ops.convert_to_tensor(y),
        ops.convert_to_tensor(outputs),
        losses,
        None,
        ops.arange(ROWS),
    )
    plain = cross_entropy(y, outputs[:, WIDTH:].astype("float64"))
    np.testing.assert_allclose(array(values), 0.4 * plain, rtol=1e-5)


def swap_values(objective, y, outputs, swapped):
    """The equations, in float64."""
    own, bias = np.split(outputs.astype("float64"), 2, axis=1)

    def logits(classifier, *parts):
        kernel, offset = (array(w) for w in classifier.weights)
        return np.concatenate(parts, axis=1) @ kernel + offset

    def gce(values):
        return (1 - np.exp(-0.7 * values)) / 0.7

    right = cross_entropy(y, logits(objective.intrinsic, own, bias))
    easy = cross_entropy(y, logits(objective.biased, own, bias))
    weights = easy / (easy + right)
    result = weights * right + 2.0 * gce(easy)
    if swapped:
        other = np.roll(bias, 1, axis=0)
        right = cross_entropy(y, logits(objective.intrinsic, own, other))
        easy = cross_entropy(
            np.roll(y, 1), logits(objective.biased, own, other)
        )
        result += 0.5 * (weights * right + 2.0 * gce(easy))
    return result


def test_swapping_begins_when_it_is_due():
    y, outputs, _ = batch(2 * WIDTH)
    objective = FeatureSwap(
        WIDTH, CLASSES, bias_weight=2.0, swap_weight=0.5, begin=2
    )
    for update in range(4):
        values = objective.call(
            ops.convert_to_tensor(y),
            ops.convert_to_tensor(outputs),
            losses,
            None,
            None,
        )
        np.testing.assert_allclose(
            array(values),
            swap_values(objective, y, outputs, swapped=update >= 2),
            rtol=2e-5,
        )


@keras.saving.register_keras_serializable("tests")
class Shift(keras.layers.Layer):
    """Adds a trained row: its gradient is the outputs' mean gradient."""

    def __init__(self):
        super().__init__()
        self.shift = self.add_weight(shape=(2 * WIDTH,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        return inputs + self.shift


def test_each_classifier_learns_through_its_own_features():
    y, outputs, _ = batch(2 * WIDTH)

    def gradient(**weights):
        inputs = keras.Input((2 * WIDTH,))
        shift = Shift()
        network = keras.Model(inputs, shift(inputs))
        network.compile(keras.optimizers.SGD(1.0), toy.logits_loss())
        objective = FeatureSwap(WIDTH, CLASSES, **weights)
        model = kd.DebiasedModel(network, objective=objective)
        model.compile()
        model.train_on_batch(outputs, y)
        return -array(shift.shift)

    of_label = gradient(bias_weight=0.0, swap_weight=0.0)
    assert np.abs(of_label[:WIDTH]).max() > 1e-3
    np.testing.assert_allclose(of_label[WIDTH:], 0.0, atol=1e-7)
    of_both = gradient(bias_weight=1.0, swap_weight=0.0)
    assert np.abs(of_both[WIDTH:]).max() > 1e-3


@pytest.mark.parametrize("recipe", [kd.recipes.CNC(), kd.recipes.DFA()])
def test_the_conflicting_rows_gain(recipe):
    """On a shortcut that is louder than the task, against plain training."""
    train = toy.numbers(600, strength=0.97, noise=0.4)
    test = toy.numbers(400, strength=0.0, seed=1, noise=0.4)

    def accuracy(method):
        trainer = toy.trainer(updates=60)
        model = method.fit(trainer, train)
        return np.mean(trainer.predict(model, test).argmax(-1) == test.y)

    plain = accuracy(kd.recipes.FineTuning())
    assert accuracy(recipe) > plain + 0.03


@pytest.mark.parametrize("recipe", [kd.recipes.CNC(), kd.recipes.DFA()])
def test_a_saved_model_trains_on_as_a_whole(recipe, tmp_path):
    train = toy.numbers(120)
    model = recipe.fit(toy.trainer(updates=8), train)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(train.x, verbose=0),
        model.predict(train.x, verbose=0),
        atol=1e-6,
    )
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    before = [array(v) for v in loaded.trainable_variables]
    loaded.fit(train, batch_size=24, epochs=1, verbose=0)
    for old, variable in zip(before, loaded.trainable_variables, strict=True):
        assert np.abs(array(variable) - old).max() > 0


def test_a_criterion_picks_among_the_models_to_return():
    train, validation = toy.numbers(240), toy.numbers(100, seed=3)
    for recipe in (kd.recipes.CNC(), kd.recipes.DFA()):
        trainer = kd.recipes.Trainer(
            toy.build,
            kd.recipes.Budget(updates=24, batch_size=24, checks=4),
            validation=validation,
            selection=kd.comparison.WorstGroup(),
        )
        model = recipe.fit(trainer, train)
        assert 0 < trainer.notes["selected_update"] <= 24
        assert model.predict(validation.x, verbose=0).shape == (100, 2)
        # It can be trained further, as it is.
        model.fit(train, batch_size=24, steps_per_epoch=1, verbose=0)


def test_wrong_arguments():
    def no_head(updates):
        network = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(2, activation="softmax")]
        )
        network.compile("adam", "sparse_categorical_crossentropy")
        return network

    train = toy.numbers(60)
    for recipe in (kd.recipes.CNC(), kd.recipes.DFA()):
        with pytest.raises(ValueError, match="ends in a `Dense`.*Received"):
            recipe.fit(toy.trainer(model_fn=no_head), train)
        one = train.take(train.y == 1)
        with pytest.raises(ValueError, match="at least two classes"):
            recipe.fit(toy.trainer(), one)
    with pytest.raises(ValueError, match="first_share=1"):
        kd.recipes.CNC(first_share=1)
    with pytest.raises(ValueError, match=r"in \[0, 1\].*weight=2"):
        kd.recipes.CNC(weight=2)
    with pytest.raises(ValueError, match="temperature=0"):
        kd.recipes.CNC(temperature=0)
    with pytest.raises(ValueError, match="begin=0"):
        kd.recipes.DFA(begin=0)
    with pytest.raises(ValueError, match="q=0"):
        kd.recipes.DFA(q=0)
    with pytest.raises(ValueError, match="swap_weight=-1"):
        kd.recipes.DFA(swap_weight=-1)
    with pytest.raises(ValueError, match="1-D array of integers"):
        CorrectNContrast([0.5], 2)


def test_features_of_any_shape_are_rows():
    inputs = keras.Input((1, 2))
    network = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    encoder, head = cut_at_head(network)
    assert encoder.output.shape == (None, 2)
    assert head.units == 3
