import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.selection import layer_paths
from keras_debias.analysis import ablate
from keras_debias.analysis import ablated
from keras_debias.analysis import kernels
from keras_debias.analysis import truncate_update
from tests.architectures import ARCHITECTURES
from tests.architectures import HIDDEN_DIM

BERT = next(a for a in ARCHITECTURES if a.name == "bert")
SEQUENTIAL = next(a for a in ARCHITECTURES if a.name == "sequential")


def direction(width, side="read", **kwargs):
    noise = np.random.default_rng(3).standard_normal((width, 2))
    return kd.Directions(np.linalg.qr(noise)[0], side, **kwargs)


def randomize(model):
    generator = np.random.default_rng(0)
    for layer in adapted_layers(model).values():
        for variable in (layer.lora_a, layer.lora_b):
            variable.assign_add(
                generator.normal(0, 0.3, variable.shape).astype("float32")
            )


@pytest.mark.parametrize("adapter", ["LoRA", "PiSSA"])
def test_outputs_are_those_of_ablated_activations(adapter):
    """On a network of two dense layers, written out."""
    model = SEQUENTIAL.build()
    create = getattr(kd.adapters, adapter)
    kd.adapters.apply(
        model, create(2, targets=("hidden_1",)), also_train=("logits",)
    )
    randomize(model)
    x, _ = SEQUENTIAL.data()
    hidden = model.layers[0](x)
    first = ops.convert_to_numpy(model.get_layer("hidden_0")(hidden))
    layer = model.get_layer("hidden_1")
    chosen = direction(first.shape[-1], readers=("hidden_1",))
    v = chosen.vectors
    expected = ops.convert_to_numpy(layer(first - first @ v @ v.T))
    before = model.predict(x, verbose=0)
    weights = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    with ablated(model, chosen):
        found = ops.convert_to_numpy(layer(first))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        # Compiled functions follow.
        assert np.abs(model.predict(x, verbose=0) - before).max() > 1e-3
        # What lies along the directions makes no difference.
        moved = first + 5.0 * v.T[:1]
        np.testing.assert_allclose(
            ops.convert_to_numpy(layer(moved)), expected, atol=1e-4
        )
    for weight, value in zip(model.weights, weights):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_all_readers_count_and_writers_lose_their_part():
    model = BERT.build()
    kd.adapters.apply(model, kd.adapters.LoRA(2))
    read = ablate(model, direction(HIDDEN_DIM))
    # query, key, value and the first of two dense layers, and the pooler
    assert len(read) == 9
    model = BERT.build()
    chosen = direction(HIDDEN_DIM, "write")
    assert len(ablate(model, chosen)) == 4
    for path, layer in layer_paths(model).items():
        if path.endswith("feedforward_output_dense"):
            inputs = np.random.default_rng(1).standard_normal((4, 12))
            outputs = ops.convert_to_numpy(layer(inputs.astype("float32")))
            assert np.abs(outputs @ chosen.vectors).max() < 1e-5


def test_ablation_during_training_keeps_the_direction_out():
    """Ablated before, constrained while: nothing reads it afterwards."""
    x, y = BERT.data()
    model = BERT.build()
    kd.adapters.apply(model, kd.adapters.LoRA(2))
    chosen = direction(HIDDEN_DIM)
    ablate(model, chosen)
    debiased = kd.DebiasedModel(model, kd.projections.Subspace(chosen), seed=0)
    debiased.compile("adam", loss=BERT.loss())
    debiased.fit(x, y, batch_size=4, epochs=2, verbose=0)
    trained = debiased.predict(x, verbose=0)
    with ablated(debiased, chosen):
        np.testing.assert_allclose(
            debiased.predict(x, verbose=0), trained, atol=1e-5
        )


def test_misuse():
    model = BERT.build()
    with pytest.raises(ValueError, match="width"):
        ablate(model, direction(HIDDEN_DIM + 1))
    with pytest.raises(ValueError, match="meet the directions"):
        ablate(model, direction(HIDDEN_DIM, readers=("nothing",)))
    kd.adapters.apply(model, kd.adapters.DoRA(2))
    before = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    with pytest.raises(ValueError, match="Merge it first"):
        ablate(model, direction(HIDDEN_DIM))
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantized_kernels_are_refused(mode):
    """Rounded integers are not what they were minus a direction."""
    model = SEQUENTIAL.build()
    plain = kernels(model)
    model.quantize(mode)
    weights = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    start = kernels(model)
    for path, kernel in start.items():
        step = np.abs(plain[path]).max() / (127 if mode == "int8" else 7)
        np.testing.assert_allclose(kernel, plain[path], atol=step)
    width = start["hidden_1"].shape[0]
    chosen = direction(width, readers=("hidden_1",), writers=())
    with pytest.raises(ValueError, match=f"'hidden_1', quantized to {mode}"):
        ablate(model, chosen)
    with pytest.raises(ValueError, match=f"quantized to {mode}"):
        truncate_update(model, plain, k=1)
    for weight, value in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


def test_biases_that_an_adapter_adds_to_writers_are_refused():
    model = SEQUENTIAL.build()
    form = kd.adapters.LoRABias(1)
    adapter = kd.adapters.ValueBias(form, targets="hidden_1")
    kd.adapters.apply(model, adapter, also_train=())
    width = model.get_layer("hidden_1").kernel.shape[-1]
    chosen = direction(width, "write", readers=(), writers=("hidden_1",))
    weights = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    with pytest.raises(ValueError, match="apply it afterwards"):
        ablate(model, chosen)
    for weight, value in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
