import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.analysis import kernels
from tests import planted

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SETTINGS = {
    "optimizer": keras.optimizers.Adam(3e-3),
    "loss": LOSS,
    "also_train": ("logits",),
    "batch_size": 64,
    "epochs": 3,
    "verbose": 0,
}


def lora():
    return kd.adapters.LoRA(4, targets=("hidden_*",))


def leak(model, start, directions):
    """The largest share of an update along the directions."""
    found = []
    for path, after in kernels(model).items():
        update = after.astype("float64") - start[path]
        if path.startswith("hidden") and update.any():
            along = directions.vectors.T @ update
            found.append(np.linalg.norm(along) / np.linalg.norm(update))
    assert len(found) == 6
    return max(found)


def reliance(model, x, direction):
    """Mean change of the outputs' difference when the factor flips."""
    flipped = x - 2 * np.outer(x @ direction, direction)
    change = model.predict(x, verbose=0) - model.predict(
        flipped.astype("float32"), verbose=0
    )
    return float(np.abs(change[:, 0] - change[:, 1]).mean())


def test_both_stages(tmp_path):
    """The planted factor: found, and then not learned again."""
    x, y, direction = planted.table(1024, 0.9)
    model = planted.network()
    start = kernels(model)
    pretrained = reliance(model, x, direction)
    plain = planted.fine_tune(x, y)
    naive = reliance(plain, x, direction)
    result = kd.grasp(model, lora(), x, y, naive=tmp_path / "naive", **SETTINGS)
    assert kd.grasp is kd.recipes.grasp
    assert result.model.model is model
    assert result.spectrum.directions == result.directions
    assert result.directions.overlap(direction) > 0.7
    assert leak(model, start, result.directions) < 2e-6
    assert len(result.history.history["loss"]) == 3
    first = result.naive_history.history["loss"][-1]
    assert first < result.history.history["loss"][-1]
    kept = reliance(model, x, direction)
    random = planted.network()
    control = kd.grasp(
        random,
        lora(),
        x,
        y,
        directions=result.directions.random(),
        **SETTINGS,
    )
    print(f"{pretrained=} {naive=} {kept=}", reliance(random, x, direction))
    assert control.naive_history is None and control.spectrum is None
    assert kept < 0.7 * reliance(random, x, direction)

    # The second stage again, from the adapter that the first one has saved.
    again = planted.network()
    resumed = kd.grasp(
        again, lora(), x, y, naive=tmp_path / "naive", **SETTINGS
    )
    assert resumed.naive_history is None
    np.testing.assert_allclose(
        np.abs(resumed.directions.vectors.T @ result.directions.vectors),
        1.0,
        atol=1e-5,
    )
    assert leak(again, start, resumed.directions) < 2e-6
    for path, layer in adapted_layers(again).items():
        np.testing.assert_array_equal(
            ops.convert_to_numpy(layer.kernel), start[path]
        )


def test_full_fine_tuning():
    x, y, _ = planted.table(256, 0.9)
    model = planted.network()
    start = kernels(model)
    settings = {**SETTINGS, "also_train": None, "epochs": 1}
    with pytest.raises(ValueError, match="at least one trained kernel"):
        # Nobody knows which of its layers read.
        kd.grasp(
            planted.network(),
            None,
            x,
            y,
            directions=kd.Directions(np.eye(planted.WIDTH)[:, :1]),
            **settings,
        )
    chosen = kd.Directions(np.eye(planted.WIDTH)[:, :1], readers=("hidden_*",))
    result = kd.grasp(model, None, x, y, directions=chosen, **settings)
    assert leak(model, start, chosen) < 1e-4
    assert result.directions == chosen


def test_nothing_found_is_said():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((64, planted.WIDTH)).astype("float32")
    y = generator.integers(0, 2, 64)
    settings = {**SETTINGS, "epochs": 1, "optimizer": "sgd"}
    with pytest.warns(UserWarning, match="stands out"):
        kd.grasp(
            planted.network(),
            kd.adapters.LoRA(1, targets=("hidden_0", "hidden_5")),
            x,
            y,
            **settings,
        )


def test_misuse(tmp_path):
    x, y, _ = planted.table(64, 0.9)
    model = planted.network()
    with pytest.raises(ValueError, match="for its folder"):
        kd.grasp(model, None, x, y, naive=tmp_path / "naive", **SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no adapter.json"):
        kd.grasp(model, lora(), x, y, naive=tmp_path / "empty", **SETTINGS)
    kd.adapters.apply(model, lora(), also_train=("logits",))
    with pytest.raises(ValueError, match="without adapters"):
        kd.grasp(model, lora(), x, y, **SETTINGS)
