"""A merged model as a SavedModel."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.skipif(
        keras.config.backend() == "torch",
        reason="Keras writes no SavedModel on torch",
    ),
    # Keras, of jax2tf.
    pytest.mark.filterwarnings("ignore:The .native_serial:DeprecationWarning"),
]


def test_same_outputs(tmp_path):
    (architecture,) = (a for a in ARCHITECTURES if a.name == "bert")
    model = architecture.build()
    kd.adapters.apply(model, [kd.adapters.LoRA(2), kd.adapters.AllBiases()])
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = 0.3 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    x, _ = architecture.data(seed=0)
    expected = ops.convert_to_numpy(model(x, training=False))
    kd.adapters.merge(model)
    path = str(tmp_path / "saved")
    # Of fixed length: JAX cannot compare a free one with that of positions.
    signature = {
        name: keras.InputSpec(shape=(None, *value.shape[1:]), dtype="int32")
        for name, value in x.items()
    }
    model.export(
        path,
        format="tf_saved_model",
        verbose=False,
        input_signature=[signature],
    )
    # What is not kept is deleted before it is called.
    loaded = tf.saved_model.load(path)
    found = loaded.serve(x)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
