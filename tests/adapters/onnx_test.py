"""A merged model as an ONNX file, read by ONNX Runtime."""

import keras
import numpy as np
import onnxruntime
import pytest

import keras_debias as kd
from tests.adapters.saved_model_test import merged
from tests.adapters.saved_model_test import signature
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
    model, x, expected = merged(TABLE[name], kd.adapters.LoRA(2))
    path = str(tmp_path / "model.onnx")
    model.export(
        path,
        format="onnx",
        verbose=False,
        # torch and jax fix the number of rows.
        input_signature=signature(x, fixed_rows=BACKEND != "tensorflow"),
    )
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    # Sorted by name where there are several, as Keras does.
    feed = dict(zip(names, keras.tree.flatten(x), strict=True))
    (found,) = session.run(None, feed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
