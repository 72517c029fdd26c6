"""Adapters in half precision: what trains is float32, what flows is not."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view
from tests.architectures import ARCHITECTURES
from tests.combinations import spread

TABLE = {a.name: a for a in ARCHITECTURES}
ADAPTERS = {
    "LoRA": lambda: kd.adapters.LoRA(rank=2),
    "LoRA with dropout": lambda: kd.adapters.LoRA(rank=2, dropout=0.5),
    "PiSSA": lambda: kd.adapters.PiSSA(rank=2),
    "DoRA": lambda: kd.adapters.DoRA(rank=2),
    "ValueBias": lambda: kd.adapters.ValueBias(),
    "TargetLayer": lambda: kd.adapters.TargetLayer(1),
}


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("adapter", "name"), spread(ADAPTERS, ["bert", "llama"])
)
def test_outputs_keep_the_dtype_of_the_model(adapter, name, policy):
    keras.config.set_dtype_policy(policy)
    model = TABLE[name].build()
    kd.adapters.apply(model, ADAPTERS[adapter]())
    seen = {}

    def watch(path, layer):
        call = layer.call

        def watched(*args, **kwargs):
            outputs = call(*args, **kwargs)
            found = keras.backend.standardize_dtype(outputs.dtype)
            seen[path] = found, layer.compute_dtype
            return outputs

        layer.__dict__["call"] = watched

    for path, layer in layer_paths(model).items():
        if hasattr(layer, "kernel") or hasattr(layer, "refine"):
            watch(path, layer)
    x, _ = TABLE[name].data()
    model(x, training=True)
    assert seen and all(found == expected for found, expected in seen.values())
    for variable in model.trainable_variables:
        if "lora" in variable.name or "refine" in variable.name:
            assert variable.dtype == "float32"


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_small_changes_of_pissa_reach_the_outputs(policy):
    """Of factors that are rounded each by itself, nothing would be left."""
    changes = []
    for each in ("float32", policy):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((16,)), keras.layers.Dense(12, name="d", dtype=each)]
        )
        generator = np.random.default_rng(0)
        model.layers[0].kernel.assign(generator.standard_normal((16, 12)))
        kd.adapters.apply(
            model, kd.adapters.PiSSA(rank=4, targets="d"), also_train=()
        )
        layer = model.layers[0]
        view = kernel_view(layer)
        a, b = (ops.convert_to_numpy(v) for v in (layer.lora_a, layer.lora_b))
        layer.lora_a.assign(a + 1e-4 * generator.standard_normal(a.shape))
        layer.lora_b.assign(b + 1e-4 * generator.standard_normal(b.shape))
        assert view.inputs == 16
        # Through the layer's update alone: the sum with `x W` is rounded.
        x = np.eye(16, dtype="float32")
        with keras.src.backend.AutocastScope(
            None if each != "mixed_bfloat16" else "bfloat16"
        ):
            update = layer._update(ops.cast(x, layer.compute_dtype), False)
        changes.append(ops.convert_to_numpy(ops.cast(update, "float32")))
    exact, found = changes
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error < 0.02
