"""Label balance against equations 2 to 4 in NumPy, and finite differences."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.testing.gradients import value_and_gradient

SMOOTHING = 1e-3


def norm(vector):
    return np.sqrt(np.sum(np.square(vector)) + SMOOTHING**2) - SMOOTHING


def expected(y, z, rows=None):
    """`(bal1, bal2)` of multi-hot labels, label by label."""
    keep = np.ones(len(z), bool) if rows is None else rows
    y, z = np.asarray(y, "float64")[keep], np.asarray(z, "float64")[keep]
    contain, lack, both = [], [], []
    for label in range(z.shape[1]):
        has = y[:, label] > 0.5
        if not has.any():
            continue
        contain.append(z[has, label].mean())
        if (~has).any():
            lack.append(z[~has, label].mean())
            both.append(contain[-1] - lack[-1])
    spreads = [norm(np.array(v) - np.mean(v)) for v in (contain, lack) if v]
    return sum(spreads), -norm(np.array(both))


def batch(seed=0, rows=6, labels=4):
    generator = np.random.default_rng(seed)
    z = generator.standard_normal((rows, labels)).astype("float32")
    y = (generator.random((rows, labels)) > 0.5).astype("float32")
    # One label that no row has, and one that every row has.
    y[:, 1], y[:, 2] = 0.0, 1.0
    return y, z


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masked", [False, True])
def test_against_the_equations(seed, masked):
    y, z = batch(seed)
    mask = np.arange(6) < 4 if masked else None
    bal1, bal2 = expected(y, z, mask)
    tensor = None if mask is None else ops.convert_to_tensor(mask)

    def value(regularizer, y):
        return float(regularizer.call(ops.convert_to_tensor(y), z, mask=tensor))

    assert value(kd.regularizers.LabelPropensity(), y) == pytest.approx(
        bal1, abs=1e-5
    )
    assert value(kd.regularizers.LabelDiscrimination(), y) == pytest.approx(
        bal2, abs=1e-5
    )
    both = kd.regularizers.LabelBalance(beta=0.5, gamma=2.0)
    assert value(both, y) == pytest.approx(0.5 * bal1 + 2 * bal2, abs=1e-5)
    # One label a row, as integers.
    single = np.array([0, 3, 3, 0, 2, 2], "int32")
    bal1, bal2 = expected(np.eye(4)[single], z, mask)
    for shape in ((6,), (6, 1)):
        found = value(both, single.reshape(shape))
        assert found == pytest.approx(0.5 * bal1 + 2 * bal2, abs=1e-5)


def test_against_finite_differences():
    y, z = batch()
    regularizer = kd.regularizers.LabelBalance(beta=0.7, gamma=1.3)
    _, gradient = value_and_gradient(
        lambda scores: regularizer.call(ops.convert_to_tensor(y), scores),
        ops.convert_to_tensor(z),
    )
    gradient, step = np.asarray(gradient), 1e-5

    def value(z):
        bal1, bal2 = expected(y, z)
        return 0.7 * bal1 + 1.3 * bal2

    for index in np.ndindex(z.shape):
        up, down = z.astype("float64"), z.astype("float64")
        up[index] += step
        down[index] -= step
        slope = (value(up) - value(down)) / (2 * step)
        assert gradient[index] == pytest.approx(slope, abs=1e-4)
    # What no row has neither counts nor learns from rows that have it.
    assert np.abs(gradient[:, 1]).max() == 0


def test_smooth_at_zero_and_bounded_by_a_cap():
    y = np.eye(3, dtype="float32")
    zeros = ops.zeros((3, 3))
    for regularizer in (
        kd.regularizers.LabelPropensity(),
        kd.regularizers.LabelDiscrimination(),
    ):
        value, gradient = value_and_gradient(
            lambda scores: regularizer.call(ops.convert_to_tensor(y), scores),
            zeros,
        )
        assert float(value) == pytest.approx(0.0, abs=1e-9)
        np.testing.assert_array_equal(np.asarray(gradient), 0.0)
    capped = kd.regularizers.LabelDiscrimination(cap=2.0)
    scores = ops.convert_to_tensor(10 * y)
    value, gradient = value_and_gradient(
        lambda scores: capped.call(ops.convert_to_tensor(y), scores), scores
    )
    assert float(value) == -2.0
    assert np.abs(np.asarray(gradient)).max() == 0.0


def test_an_encoders_logits_are_balanced_term_by_term():
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    generator = np.random.default_rng(0)
    x = generator.standard_normal((24, 5)).astype("float32")
    y = generator.integers(0, 3, 24).astype("int32")

    def train(regularizers):
        keras.utils.set_random_seed(1)
        copy = keras.models.clone_model(network)
        copy.set_weights(network.get_weights())
        model = kd.DebiasedModel(copy, regularizers=regularizers, seed=0)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        logs = model.fit(x, y, batch_size=24, epochs=30, verbose=0).history
        return logs, np.asarray(copy.predict(x, verbose=0))

    one_hot = np.eye(3)[y]
    start = expected(one_hot, network.predict(x, verbose=0))
    logs, scores = train(kd.regularizers.LabelBalance(beta=1.0, gamma=0.0))
    assert logs["label_propensity"][0] == pytest.approx(start[0], abs=1e-4)
    assert logs["label_discrimination"][0] == pytest.approx(start[1], abs=1e-4)
    _, plain = train(None)
    assert expected(one_hot, scores)[0] < 0.5 * expected(one_hot, plain)[0]
    _, apart = train(kd.regularizers.LabelBalance(beta=0.0, gamma=1.0))
    assert expected(one_hot, apart)[1] < 2 * expected(one_hot, plain)[1]


def test_config_and_bad_input():
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 10)
    for regularizer in (
        kd.regularizers.LabelBalance(0.5, schedule, cap=3.0),
        kd.regularizers.LabelPropensity(2.0),
        kd.regularizers.LabelDiscrimination(schedule, cap=4.0),
    ):
        config = keras.saving.serialize_keras_object(regularizer)
        assert config["registered_name"].startswith("keras_debias>")
        again = keras.saving.deserialize_keras_object(config)
        assert again.get_config() == regularizer.get_config()
    y, z = batch()
    with pytest.raises(ValueError, match="`cap`"):
        kd.regularizers.LabelBalance(cap=0)
    with pytest.raises(ValueError, match="`smoothing`"):
        kd.regularizers.LabelPropensity(smoothing=0.0)
    with pytest.raises(ValueError, match="LabelWordClassifier"):
        kd.regularizers.LabelBalance().call(None, ops.convert_to_tensor(z))
    with pytest.raises(ValueError, match="a schedule"):
        kd.regularizers.LabelBalance(schedule).call(y, z)
