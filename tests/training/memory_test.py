"""Nothing of a trained model stays once its last reference is gone."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.architectures import HIDDEN_DIM
from tests.combinations import part
from tests.training.fit_test import TABLE

PARTS = {
    "plain": lambda: {},
    "edge": lambda: {"projection": kd.projections.EDGE()},
    "subspace": lambda: {
        "projection": kd.projections.Subspace(np.eye(HIDDEN_DIM)[:, :1])
    },
    "teacher": lambda: {"regularizers": [kd.regularizers.Consistency(0.1)]},
}


def weights_after_training(parts) -> list:
    """References to all weights of a model that was used, and left."""
    architecture = TABLE["bert"]
    network = architecture.build()
    kd.adapters.apply(network, kd.adapters.LoRA(2))
    model = kd.DebiasedModel(network, seed=0, **parts)
    model.compile(
        keras.optimizers.AdamW(0.01, use_ema=True, clipnorm=1.0),
        loss=architecture.loss(),
        metrics=["accuracy"],
    )
    x, y = architecture.data()
    model.fit(x, y, validation_data=(x, y), epochs=2, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    weights = [*model.variables, *model.optimizer.variables]
    return [weakref.ref(held(weight)) for weight in weights]


def held(weight):
    """What has the memory: on tensorflow, graphs hold the resource alone."""
    if keras.config.backend() == "tensorflow":
        return weight.value.handle
    return weight


@pytest.mark.parametrize("name", part(PARTS))
def test_a_trained_model_goes(name):
    weights = weights_after_training(PARTS[name]())
    keras.utils.clear_session()
    gc.collect()
    assert weights and not [w() for w in weights if w() is not None]
