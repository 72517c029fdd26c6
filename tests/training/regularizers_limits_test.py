"""Regularizers in the step: saving, bad input, terms that cannot act."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.regularizers import Consistency
from keras_debias.regularizers import Diversity
from keras_debias.regularizers import SpectralConcentration
from keras_debias.regularizers import TwoPhase
from keras_debias.regularizers import ba_lora
from tests.training.regularized_step_test import adapted
from tests.training.regularized_step_test import compiled
from tests.training.regularized_step_test import moved
from tests.training.regularized_step_test import one_step
from tests.training.regularized_step_test import some
from tests.training.step_test import ROWS
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows


def test_a_teacher_of_ones_own(tmp_path):
    """For a network without adapters; saved and loaded with the model."""
    x, y = rows()
    teacher = network(seed=1)
    regularizer = Consistency(0.5, teacher=teacher)
    model = compiled([regularizer], network())
    history = model.fit(x, y, batch_size=ROWS, verbose=0).history
    expected = regularizer.call(
        None, network().predict(x, verbose=0), teacher(x)
    )
    np.testing.assert_allclose(
        history["consistency"], float(expected), atol=1e-5
    )
    for a, b in zip(
        teacher.get_weights(), network(seed=1).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.regularizers[0].teacher.predict(x, verbose=0),
        teacher.predict(x, verbose=0),
    )
    for each in (model, loaded):
        each.fit(x, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )


def test_a_saved_model_goes_on_with_its_regularizers(tmp_path):
    x, y = rows()
    model = compiled(
        [*some()[:2], SpectralConcentration(TwoPhase(0.5, 9), k=1)],
        projection=kd.projections.EDGE(),
        optimizer=keras.optimizers.Adam(0.01),
    )
    model.fit(x, y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [r.get_config() for r in loaded.regularizers] == [
        r.get_config() for r in model.regularizers
    ]
    logs = [
        each.fit(x, y, batch_size=4, epochs=2, verbose=0).history
        for each in (model, loaded)
    ]
    for name in logs[0]:
        np.testing.assert_allclose(
            logs[0][name][0], logs[1][name][0], atol=1e-5
        )
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


def test_bad_input():
    with pytest.raises(
        ValueError, match="teacher for 'consistency'.*functional"
    ):
        compiled([Consistency()], network())
    with pytest.raises(TypeError, match="list of regularizers"):
        compiled(["consistency"])
    with pytest.raises(ValueError, match="different names"):
        compiled([Diversity(), Diversity()])
    model = compiled([Consistency()])
    kd.adapters.merge(model)
    x, y = rows()
    model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
    with pytest.raises(ValueError, match="teacher for 'consistency'"):
        model.fit(x, y, verbose=0)
    for loss in (
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
    ):
        model = compiled([Diversity()], loss=loss)
        with pytest.raises(ValueError, match="returns logits"):
            model.fit(x, y, verbose=0)
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model = compiled([Consistency(teacher=other)])
    with pytest.raises(ValueError, match="shape of the student"):
        model.fit(x, y, verbose=0)


def test_terms_that_cannot_act_warn_in_fit():
    x, y = rows()
    model = compiled(ba_lora())
    with pytest.warns(UserWarning, match="'spectral_concentration' cannot act"):
        model.fit(x, y, verbose=0)
    # Once: warnings are errors here.
    model.fit(x, y, verbose=0)
    model = compiled([Diversity()])
    with pytest.warns(UserWarning, match="covariance of one row"):
        model.fit(x, y, batch_size=1, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = adapted()
    keras.config.set_dtype_policy("float32")
    moved(model)
    debiased = compiled(some(), model, kd.projections.EDGE(), optimizer="sgd")
    x, y = rows()
    history = debiased.fit(x, y, batch_size=ROWS, verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    _, exact = one_step(some())
    for regularizer in some():
        np.testing.assert_allclose(
            history[regularizer.name], exact[regularizer.name], atol=0.05
        )
