"""DoRA against its equations in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.layers import DoRADense
from keras_debias.layers import DoRAEinsumDense
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.linalg import kernel_view

# The last one has its outputs before an axis of the inputs.
LAYERS = {
    "dense": lambda **k: DoRADense(12, rank=2, **k),
    "query": lambda **k: DoRAEinsumDense(
        "abc,cde->abde", (None, 3, 4), rank=2, **k
    ),
    "turned": lambda **k: DoRAEinsumDense(
        "abc,cd->adb", (12, None), rank=2, **k
    ),
}


@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_is_a_length_times_a_direction(create):
    generator = np.random.default_rng(0)
    layer = create(alpha=3)
    x = generator.normal(size=(2, 5, 8)).astype("float32")
    start = ops.convert_to_numpy(layer(x))
    view = kernel_view(layer)
    w = ops.convert_to_numpy(view.to_matrix(layer.kernel.value))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.lora_magnitude),
        np.linalg.norm(w, axis=0),
        rtol=1e-5,
    )
    kernel = ops.convert_to_numpy(layer.kernel)
    product = getattr(layer, "equation", "abc,cd->abd")
    np.testing.assert_allclose(start, np.einsum(product, x, kernel), atol=1e-5)

    a = generator.normal(size=(8, 2)).astype("float32")
    b = generator.normal(size=(2, 12)).astype("float32")
    m = generator.normal(size=12).astype("float32")
    layer.lora_a.assign(a)
    layer.lora_b.assign(b)
    layer.lora_magnitude.assign(m)
    v = w + 3 / 2 * a @ b
    expected = m * v / np.linalg.norm(v, axis=0)
    merged = ops.convert_to_numpy(view.to_matrix(layer.merged_kernel()))
    np.testing.assert_allclose(merged, expected, atol=1e-5)
    whole = np.einsum(
        product, x, ops.convert_to_numpy(view.from_matrix(expected))
    )
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), whole, atol=2e-5)
    # Off: the pretrained layer, to the bit.
    layer.lora_gate.assign(0.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), start)


def test_a_column_of_zeros_stays_finite():
    layer = DoRADense(3, rank=1)
    x = np.ones((2, 4), "float32")
    layer.build(x.shape)
    kernel = ops.convert_to_numpy(layer.kernel).copy()
    kernel[:, 1] = 0
    layer.kernel.assign(kernel)
    layer.reset_updates()
    layer.lora_b.assign(np.ones((1, 3)))
    y = ops.convert_to_numpy(layer(x))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y[:, 1], 0.0)


def classifier():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh", name="query"),
            keras.layers.Dense(3, name="head"),
        ]
    )


def test_fits_saves_and_comes_back(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 6)).astype("float32")
    y = generator.integers(0, 3, 16)
    model = classifier()
    adapter = kd.adapters.DoRA(rank=2, targets="query", dropout=0.1)
    kd.adapters.apply(model, adapter, also_train="head")
    debiased = kd.DebiasedModel(
        model,
        projection=kd.projections.EDGE(alpha=0.5),
        regularizers=[kd.regularizers.Consistency(weight=0.1)],
    )
    debiased.compile(
        keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    debiased.fit(x, y, batch_size=8, epochs=3, verbose=0)
    layer = model.get_layer("query")
    lengths = np.linalg.norm(ops.convert_to_numpy(layer.kernel), axis=0)
    trained = ops.convert_to_numpy(layer.lora_magnitude)
    assert np.abs(trained - lengths).min() > 1e-3

    before = debiased.predict(x, verbose=0)
    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), before, atol=1e-6)
    assert isinstance(again.model.get_layer("query"), LowRankUpdate)
    assert len(again.trainable_variables) == len(debiased.trainable_variables)

    # A file of the bare network loads merged, and into adapted layers too.
    model.save_weights(tmp_path / "bare.weights.h5")
    plain = classifier()
    plain.load_weights(tmp_path / "bare.weights.h5")
    np.testing.assert_allclose(plain.predict(x, verbose=0), before, atol=1e-5)
    model.load_weights(tmp_path / "bare.weights.h5")
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-5)
