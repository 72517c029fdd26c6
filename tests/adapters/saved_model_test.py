"""A merged model as a SavedModel, on torch as an `ExportedProgram`."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES

pytestmark = [
    # Keras, of jax2tf.
    pytest.mark.filterwarnings("ignore:The .native_serial:DeprecationWarning"),
    # torch, of its own pytrees and of the attributes of Keras' layers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


def read(path, x):
    if keras.config.backend() == "torch":
        import torch

        program = torch.export.load(path).module()
        return program({k: torch.tensor(v) for k, v in x.items()}).numpy()
    import tensorflow as tf

    # What is not kept is deleted before it is called.
    loaded = tf.saved_model.load(path)
    return loaded.serve(x).numpy()


def merged(architecture, adapters):
    """A merged model, inputs, and its outputs before merging."""
    model = architecture.build()
    kd.adapters.apply(model, adapters, also_train=architecture.also_train)
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = 0.3 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    x, _ = architecture.data(seed=0)
    expected = ops.convert_to_numpy(model(x, training=False))
    return kd.adapters.merge(model), x, expected


def signature(x, fixed_rows):
    """The `input_signature` for inputs of these lengths."""
    return [
        keras.tree.map_structure(
            lambda value: keras.InputSpec(
                shape=(len(value) if fixed_rows else None, *value.shape[1:]),
                dtype=str(value.dtype),
            ),
            x,
        )
    ]


def test_same_outputs(tmp_path):
    (architecture,) = (a for a in ARCHITECTURES if a.name == "bert")
    model, x, expected = merged(
        architecture, [kd.adapters.LoRA(2), kd.adapters.AllBiases()]
    )
    on_torch = keras.config.backend() == "torch"
    path = str(tmp_path / ("saved.pt2" if on_torch else "saved"))
    model.export(
        path,
        format="torch" if on_torch else "tf_saved_model",
        verbose=False,
        # Of fixed length: JAX cannot compare a free one with that of
        # positions. torch fixes the batch as well.
        input_signature=signature(x, fixed_rows=on_torch),
    )
    np.testing.assert_allclose(read(path, x), expected, atol=1e-5)
