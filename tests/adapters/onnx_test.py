"""A merged model as an ONNX file, read by ONNX Runtime."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES

BACKEND = keras.config.backend()
TABLE = {a.name: a for a in ARCHITECTURES}
# tf2onnx has no `Erfc` (exact GELU); jax2onnx traces shapes, which Llama's
# cache needs as numbers.
NAMES = {
    "torch": ["functional", "bert", "llama"],
    "tensorflow": ["bert", "llama"],
    "jax": ["functional", "bert"],
}

# Of the packages that write the files, and of torch's own exporter.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", NAMES[BACKEND])
def test_same_outputs(name, tmp_path):
    architecture = TABLE[name]
    model = architecture.build()
    kd.adapters.apply(
        model, kd.adapters.LoRA(2), also_train=architecture.also_train
    )
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = 0.3 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    x, _ = architecture.data(seed=0)
    expected = ops.convert_to_numpy(model(x, training=False))
    kd.adapters.merge(model)
    signature = keras.tree.map_structure(
        # torch and jax fix the number of rows.
        lambda value: keras.InputSpec(
            shape=(
                None if BACKEND == "tensorflow" else len(value),
                *value.shape[1:],
            ),
            dtype=str(value.dtype),
        ),
        x,
    )
    path = str(tmp_path / "model.onnx")
    model.export(
        path, format="onnx", verbose=False, input_signature=[signature]
    )
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    # Sorted by name where there are several, as Keras does.
    feed = dict(zip(names, keras.tree.flatten(x), strict=True))
    (found,) = session.run(None, feed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
