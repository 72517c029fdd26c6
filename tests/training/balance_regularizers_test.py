"""Weights from the lengths of gradients."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.regularizers import Consistency
from keras_debias.regularizers import Diversity
from tests.training.regularized_step_test import Nothing
from tests.training.regularized_step_test import adapted
from tests.training.regularized_step_test import compiled
from tests.training.regularized_step_test import one_step
from tests.training.regularized_step_test import some
from tests.training.step_test import rows


def length(update):
    return np.sqrt(sum((u.astype("float64") ** 2).sum() for u in update))


def test_all_gradients_get_the_length_of_the_tasks():
    model = compiled(some(), projection=kd.projections.EDGE())
    before = [np.array(w) for w in model.get_weights()]
    weights = kd.balance_regularizers(model, rows(), scale=0.5)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r.weight for r in model.regularizers] == [0.7, 0.5, 0.9]
    task = length(one_step(None)[0])
    assert set(weights) == {r.name for r in some()}
    for regularizer in some():
        regularizer.weight = weights[regularizer.name]
        found = length(one_step([regularizer], projection=Nothing())[0])
        assert found == pytest.approx(0.5 * task, rel=1e-4)


def test_a_split_and_what_the_forward_pass_writes():
    inputs = keras.Input((5,))
    x = keras.layers.BatchNormalization()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    debiased = compiled([Diversity()], model)
    x, y = rows()
    before = [np.array(w) for w in model.get_weights()]
    weights = kd.balance_regularizers(debiased, kd.data.Split(x, y))
    assert weights["diversity"] > 0
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    iterations = ops.convert_to_numpy(debiased.optimizer.iterations)
    assert int(iterations) == 0


def test_dropout_goes_on_as_without():
    def trained(balanced):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        x = keras.layers.Dropout(0.5, seed=1)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(3)(x))
        debiased = compiled([Diversity()], model)
        if balanced:
            kd.balance_regularizers(debiased, rows())
        debiased.fit(*rows(), verbose=0)
        return model.get_weights()

    for a, b in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_are_aligned_by_name():
    x, y = rows()
    names = ["a", "b", "c"]
    model = compiled([Diversity()])
    model.fit(kd.data.Split(x, y, label_names=names), verbose=0)
    expected = kd.balance_regularizers(model, (x, y))
    other = kd.data.Split(x, 2 - y, label_names=names[::-1])
    assert kd.balance_regularizers(model, other) == pytest.approx(expected)


@pytest.mark.parametrize("rounding", [0.0, 1e-6])
def test_a_term_without_a_gradient_keeps_its_weight(rounding):
    """At the start the model is its own teacher, but for rounding."""
    model = compiled([Consistency(0.3), Diversity()], adapted())
    for variable in model.trainable_variables:
        value = ops.convert_to_numpy(variable)
        variable.assign(value * np.float32(1 + rounding))
    with pytest.warns(UserWarning, match="'consistency' keeps its weight, 0.3"):
        weights = kd.balance_regularizers(model, rows())
    assert weights["consistency"] == pytest.approx(0.3)


def test_bad_input():
    with pytest.raises(ValueError, match="with regularizers"):
        kd.balance_regularizers(compiled(None), rows())
    with pytest.raises(ValueError, match="scale=0"):
        kd.balance_regularizers(compiled(some()), rows(), scale=0)
    with pytest.raises(ValueError, match="not compiled"):
        kd.balance_regularizers(
            kd.DebiasedModel(adapted(), regularizers=Diversity()), rows()
        )
