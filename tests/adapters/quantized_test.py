"""Adapters over a base that Keras quantized: QLoRA, QPiSSA, QDoRA."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias import _keras_internals
from keras_debias.adapters.apply import adapted_layers
from keras_debias.linalg import kernel_view
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.real_models import minilm

# Keras says so of every layer that has nothing to quantize.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have a `quantize` method:UserWarning"
)

TABLE = {a.name: a for a in ARCHITECTURES}
INPUTS, OUTPUTS = 8, 12

LAYERS = {
    "dense": lambda: keras.layers.Dense(12, activation="tanh"),
    "query": lambda: keras.layers.EinsumDense(
        "abc,cde->abde", (None, 3, 4), bias_axes="de"
    ),
    "gemma": lambda: keras.layers.EinsumDense(
        "btd,ndh->btnh", (None, 3, 4), bias_axes="nh"
    ),
}
INT4 = keras.quantizers.Int4QuantizationConfig
MODES = {
    "int8": ("int8", None),
    "int4": ("int4", INT4(block_size=4)),
    "int4_by_column": ("int4", INT4(block_size=None)),
}


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def quantized(create, mode):
    generator = np.random.default_rng(0)
    layer = create()
    layer.build((2, 5, INPUTS))
    for variable in layer.weights:
        variable.assign(generator.normal(size=variable.shape))
    layer.quantize(mode[0], config=mode[1])
    return layer, generator


def whole_rows(layer):
    """The kernel as Keras computes with it, from its answers to unit rows.

    Rounding the inputs to integers is exact for ones and zeros.
    """
    twin = type(layer).from_config({**layer.get_config(), "activation": None})
    twin.build((1, INPUTS, INPUTS))
    for own, other in zip(twin.weights, layer.weights, strict=True):
        own.assign(array(other))
    rows = array(twin(np.eye(INPUTS, dtype="float32")[None]))[0]
    bias = array(layer.bias).reshape(-1)
    return rows.reshape(INPUTS, OUTPUTS) - bias


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_update_over_integers(create, mode):
    layer, generator = quantized(create, mode)
    view = kernel_view(layer)
    w = array(view.to_matrix(_keras_internals.dequantized_kernel(layer)))
    np.testing.assert_allclose(w, whole_rows(layer), atol=1e-5)

    x = generator.normal(size=(2, 5, INPUTS)).astype("float32")
    start = array(layer(x))
    before = {v.path: array(v) for v in layer.weights}
    adapter = kd.adapters.PiSSA(rank=2, alpha=3)
    adapter.attach(layer, adapter.prepare("layer", layer))
    np.testing.assert_array_equal(array(layer(x)), start)
    u, s, vt = np.linalg.svd(w)
    np.testing.assert_allclose(
        1.5 * array(layer.lora_a) @ array(layer.lora_b),
        (u[:, :2] * s[:2]) @ vt[:2],
        atol=1e-4,
    )
    for variable in layer.weights:
        if variable.path in before:
            np.testing.assert_array_equal(
                array(variable), before[variable.path]
            )


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS)
def test_dora_over_integers(create, mode):
    layer, generator = quantized(create, mode)
    activation, layer.activation = layer.activation, None
    bias = array(layer.bias)
    x = generator.normal(size=(2, 5, INPUTS)).astype("float32")
    product = array(layer(x)) - bias
    view = kernel_view(layer)
    w = array(view.to_matrix(_keras_internals.dequantized_kernel(layer)))
    layer.activation = activation
    start = array(layer(x))
    adapter = kd.adapters.DoRA(rank=2, alpha=3)
    adapter.attach(layer, adapter.prepare("layer", layer))
    np.testing.assert_allclose(array(layer(x)), start, atol=1e-5)

    a, b, m = (
        generator.normal(size=size).astype("float32")
        for size in ((INPUTS, 2), (2, OUTPUTS), (OUTPUTS,))
    )
    for variable, value in zip(layer.low_rank_state.values(), (a, b, m)):
        variable.assign(value)
    length = np.linalg.norm(w + 1.5 * a @ b, axis=0)
    update = 1.5 * (x @ a @ b).reshape(product.shape)
    factors = (m / length).reshape(product.shape[2:])
    expected = activation(
        ops.convert_to_tensor((product + update) * factors + bias)
    )
    np.testing.assert_allclose(array(layer(x)), array(expected), atol=2e-5)
    with pytest.raises(ValueError, match="Keep the adapter"):
        layer.merged_kernel()


def model_of(name, mode):
    model = TABLE[name].build()
    # Keras brings an int4 embedding back from a file with another rounding.
    model.backbone.quantize(
        mode,
        filters=lambda layer: mode != "int4" or "embedding" not in layer.name,
    )
    return model


def predict(model, x):
    """Without compiling, which takes most of the time."""
    return array(model(x, training=False))


CASES = {
    "bert_int8_pissa": ("bert", "int8", kd.adapters.PiSSA(rank=2)),
    "llama_int4_dora": ("llama", "int4", kd.adapters.DoRA(rank=2)),
}
if keras.config.backend() == "torch":
    # The same code paths again, in other company.
    CASES["llama_int8_lora"] = (
        *("llama", "int8"),
        [kd.adapters.LoRA(rank=2), kd.adapters.ValueBias()],
    )
    CASES["bert_int8_adalora"] = ("bert", "int8", kd.adapters.AdaLoRA(rank=2))
    CASES["bert_int8_bias"] = ("bert", "int8", kd.adapters.AllBiases())


@pytest.mark.parametrize("case", part(CASES, period=2))
def test_trains_saves_and_comes_back(case, tmp_path):
    name, mode, adapter = CASES[case]
    architecture = TABLE[name]
    x, y = architecture.data(seed=0)
    model = model_of(name, mode)
    start = predict(model, x)
    integers = {
        v.path: array(v) for v in model.backbone.weights if v.dtype == "int8"
    }
    kd.adapters.apply(model, adapter)
    np.testing.assert_allclose(predict(model, x), start, atol=1e-5)

    # QBA-LoRA: the teacher is the quantized model with adapters off.
    debiased = kd.DebiasedModel(
        model,
        regularizers=[kd.regularizers.Consistency(weight=0.1)],
        seed=0,
    )
    debiased.compile(keras.optimizers.Adam(0.02), loss=architecture.loss())
    debiased.fit(x, y, batch_size=len(y) // 2, epochs=2, verbose=0)
    trained = predict(model, x)
    assert np.abs(trained - start).max() > 1e-3
    for variable in model.backbone.weights:
        if variable.path in integers:
            np.testing.assert_array_equal(
                array(variable), integers[variable.path]
            )

    kd.adapters.save(model, tmp_path / "adapter")
    again = kd.adapters.load(model_of(name, mode), tmp_path / "adapter")
    np.testing.assert_allclose(predict(again, x), trained, atol=1e-5)
    with kd.adapters.disabled(again):
        if name == "llama":
            # No head: what is left is the base.
            np.testing.assert_allclose(predict(again, x), start, atol=1e-5)
    with pytest.raises(ValueError, match="original base"):
        kd.adapters.load(architecture.build(), tmp_path / "adapter")

    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    # Compiled once.
    found = np.asarray(again.predict(x, verbose=0))
    np.testing.assert_allclose(found, trained, atol=1e-5)

    if not isinstance(adapter, kd.adapters.AllBiases):
        before = [array(v) for v in model.weights]
        with pytest.raises(ValueError, match="Keep the adapter"):
            kd.adapters.merge(model)
        for variable, value in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(array(variable), value)


def test_a_head_of_integers_is_refused():
    model = TABLE["bert"].build()
    model.quantize("int8")
    with pytest.raises(ValueError, match="backbone.quantize"):
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
    assert not adapted_layers(model)


@pytest.mark.once
def test_minilm_over_int8():
    classifier = minilm(length=8)
    texts = ["a man sleeps", "two dogs run", "nobody is here", "rain"]
    tokens = classifier.preprocess_samples(texts)
    plain = predict(classifier, tokens)
    classifier.backbone.quantize("int8")
    start = predict(classifier, tokens)
    assert 0 < np.abs(start - plain).max() < 0.5
    kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
    assert kd.adapters.summary(classifier).trainable == 73_728 + 1_155
    np.testing.assert_allclose(predict(classifier, tokens), start, atol=1e-5)
    model = kd.DebiasedModel(
        classifier, regularizers=kd.regularizers.ba_lora(k=1)
    )
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(
        kd.data.Split(texts, np.arange(4) % 3), epochs=2, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("mode", ["gptq", "awq"])
def test_other_quantizations_are_refused_by_name(mode):
    model = TABLE["bert"].build()
    query = model.backbone.transformer_layers[0]._self_attention_layer
    kinds = keras.quantizers
    kind = {"gptq": "GPTQConfig", "awq": "AWQConfig"}[mode]
    config = getattr(kinds, kind)(dataset=None, tokenizer=None)
    query.query_dense.quantize(mode, config=config)
    for adapter in (kd.adapters.LoRA(2), kd.adapters.IA3("query", ())):
        with pytest.raises(ValueError, match=f"int4.*{mode}"):
            kd.adapters.apply(model, adapter)
