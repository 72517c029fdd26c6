"""Bias adapters: the theory, the counts, the forms, merging and errors."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.selection import layer_paths
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.combinations import spread
from tests.real_models import minilm
from tests.real_models import nothing_drawn
from tests.real_models import smollm2

TABLE = {a.name: a for a in ARCHITECTURES}
RNG = np.random.default_rng(0)
FORMS = {
    "vector": kd.adapters.VectorBias(),
    "lora": kd.adapters.LoRABias(rank=2),
    "vera": kd.adapters.VeRABias(rank=2),
    "vera_scalar": kd.adapters.VeRAScalarBias(),
    "dora": kd.adapters.DoRABias(rank=2),
    "pissa": kd.adapters.PiSSABias(rank=1),
}


def outputs(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def draw(variables, scale=0.5):
    generator = np.random.default_rng(1)
    for variable in variables:
        noise = scale * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)


# Attention layers as models of their own.


def rotary():
    """A rotary, bias-free layer with grouped queries: Llama's."""
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=8,
        num_layers=1,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=8,
    )
    return layer_paths(backbone)["transformer_layer_0/self_attention"]


def attention_model(kind):
    """`(model, attention layer)`: one attention layer over random inputs."""
    inputs = keras.Input((5, 16))
    if kind == "mha":
        layer = keras.layers.MultiHeadAttention(4, 4)
        model = keras.Model(inputs, layer(inputs, inputs))
    elif kind == "cached":
        layer = keras_hub.layers.CachedMultiHeadAttention(4, 4)
        model = keras.Model(inputs, layer(inputs, inputs))
    elif kind == "grouped":
        layer = keras.layers.GroupQueryAttention(4, 4, 2)
        model = keras.Model(inputs, layer(inputs, inputs))
    else:
        layer = rotary()
        model = keras.Model(inputs, layer(inputs))
    for variable in model.trainable_variables:
        variable.assign(0.4 * RNG.standard_normal(variable.shape))
    return model, layer


KINDS = ("mha", "cached", "grouped", "rotary")
X = RNG.standard_normal((3, 5, 16)).astype("float32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_bias_acts_on_rotary_attention_only(kind):
    model, _ = attention_model(kind)
    before = outputs(model, X)
    kd.adapters.apply(model, kd.adapters.KeyBias(), also_train=())
    draw(model.trainable_variables, scale=3.0)
    change = np.abs(outputs(model, X) - before).max()
    if kind == "rotary":
        assert change > 0.05
    else:
        assert change < 1e-5 * max(1, np.abs(before).max())


def test_a_key_bias_acts_on_normalized_keys():
    architecture = TABLE["qwen3"]
    x, _ = architecture.data()
    model = architecture.build()
    before = outputs(model, x)
    kd.adapters.apply(model, kd.adapters.KeyBias())
    draw(model.trainable_variables)
    assert np.abs(outputs(model, x) - before).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_bias_is_a_shift_of_the_output(kind):
    model, _ = attention_model(kind)
    before = outputs(model, X)
    kd.adapters.apply(model, kd.adapters.ValueBias(), also_train=())
    (variable,) = model.trainable_variables
    start = np.array(ops.convert_to_numpy(variable))
    draw([variable])
    change = ops.convert_to_numpy(variable) - start
    # (value heads, size) -> (query heads, size), then through the kernel.
    heads = change.reshape(-1, 4)
    change = np.repeat(heads, 4 // len(heads), axis=0).reshape(-1)
    (attention,) = attentions(model)
    kernel = ops.convert_to_numpy(attention.output.layer.kernel)
    shift = np.einsum("i,id->d", change, kernel.reshape(16, 16))
    assert np.abs(shift).max() > 0.1
    np.testing.assert_allclose(
        outputs(model, X), before + shift, atol=1e-5 * np.abs(before).max()
    )


class FlatHeads(keras.layers.Layer):
    """Attention whose value heads, of size 2, lie on one axis."""

    def __init__(self, heads, value_heads):
        super().__init__(name="attention")
        self.heads, self.value_heads = heads, value_heads
        self.query = keras.layers.Dense(2 * heads, name="query")
        self.key = keras.layers.Dense(2 * value_heads, name="key")
        self.value = keras.layers.Dense(
            2 * value_heads, use_bias=False, name="value"
        )
        self.out_proj = keras.layers.Dense(16, name="out_proj")

    def build(self, input_shape):
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        self.out_proj.build((*input_shape[:-1], 2 * self.heads))

    def call(self, x):
        q = ops.reshape(self.query(x), (-1, 5, self.heads, 2))
        k, v = (
            ops.repeat(
                ops.reshape(layer(x), (-1, 5, self.value_heads, 2)),
                self.heads // self.value_heads,
                axis=2,
            )
            for layer in (self.key, self.value)
        )
        share = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
        y = ops.einsum("bhqk,bkhd->bqhd", share, v)
        return self.out_proj(ops.reshape(y, (-1, 5, 2 * self.heads)))


@pytest.mark.parametrize("value_heads", [4, 2, 1])
def test_a_value_bias_merges_only_where_its_heads_are_known(value_heads):
    inputs = keras.Input((5, 16))
    model = keras.Model(inputs, FlatHeads(4, value_heads)(inputs))
    kd.adapters.apply(model, kd.adapters.ValueBias(), also_train=())
    draw(model.trainable_variables)
    before = outputs(model, X)
    if value_heads < 4:
        with pytest.raises(ValueError, match="one axis for shared heads"):
            kd.adapters.merge(model)
    else:
        kd.adapters.merge(model)
    np.testing.assert_allclose(outputs(model, X), before, atol=1e-5)


def test_a_query_bias_acts_inside_the_softmax_only():
    model, _ = attention_model("mha")
    before = outputs(model, X)
    kd.adapters.apply(model, kd.adapters.QueryBias(), also_train=())
    draw(model.trainable_variables, scale=3.0)
    assert np.abs(outputs(model, X) - before).max() > 0.05
    # One position: its weight is one, whatever the scores.
    short, _ = attention_model("mha")
    inputs = keras.Input((1, 16))
    short = keras.Model(inputs, short.layers[-1](inputs, inputs))
    before = outputs(short, X[:, :1])
    kd.adapters.apply(short, kd.adapters.QueryBias(), also_train=())
    draw(short.trainable_variables, scale=3.0)
    np.testing.assert_allclose(outputs(short, X[:, :1]), before, atol=1e-5)


# Counts of the paper, on one layer of the real width.


def test_shares_of_the_paper():
    with nothing_drawn():
        bert = keras_hub.models.BertBackbone(
            vocabulary_size=8,
            num_layers=1,
            num_heads=12,
            hidden_dim=768,
            intermediate_dim=3072,
        )
        opt = keras_hub.models.OPTBackbone(
            vocabulary_size=8,
            num_layers=1,
            num_heads=32,
            hidden_dim=2048,
            intermediate_dim=8192,
        )

    def trained(model, adapter):
        kd.adapters.apply(model, adapter, also_train=())
        count = kd.adapters.summary(model).trainable
        kd.adapters.merge(model)
        return count

    def size(backbone, name):
        return backbone.presets[name]["metadata"]["params"]

    base = size(keras_hub.models.BertBackbone, "bert_base_en_uncased")
    value = 12 * trained(bert, kd.adapters.ValueBias())
    assert value == 12 * 768
    assert round(100 * value / base, 2) == 0.01
    # 8,448 in each block, and 768 each of pooler and embedding norm.
    every = trained(bert, kd.adapters.AllBiases(inject=False))
    assert every == 8448 + 2 * 768
    assert round(100 * (12 * 8448 + 2 * 768) / base, 2) == 0.09
    value = 24 * trained(opt, kd.adapters.ValueBias())
    base = size(keras_hub.models.OPTBackbone, "opt_1.3b_en")
    assert round(1000 * value / base, 2) == 0.04


def test_sizes_of_the_forms():
    counts = {
        "lora": 8 * (24 + 32),
        "vera": 24 + 8,
        "vera_scalar": 1,
        "dora": 8 * (24 + 32) + 1,
        "pissa": 8 * (24 + 32),
    }
    base = RNG.standard_normal(768).astype("float32")
    for name, count in counts.items():
        form = type(FORMS[name])()
        form.check("value", 768)
        start = form.start(768, base)
        trained = sum(np.size(a) for a, trains in start.values() if trains)
        assert trained == count, name


# The forms.


@pytest.mark.parametrize("name", FORMS)
def test_forms_follow_their_equations(name):
    form, base = FORMS[name], RNG.standard_normal(12).astype("float32")
    start = form.start(12, base)
    values = {k: np.array(v, "float64") for k, (v, _) in start.items()}

    def delta(arrays):
        tensors = {
            k: ops.convert_to_tensor(v.astype("float32"))
            for k, v in arrays.items()
        }
        found = form.delta(tensors, ops.convert_to_tensor(base))
        return ops.convert_to_numpy(found)

    np.testing.assert_allclose(delta(values), 0, atol=1e-6)
    for key, (_, trains) in start.items():
        if trains:
            values[key] = values[key] + RNG.standard_normal(values[key].shape)
    v = values
    expected = {
        "vector": lambda: v[""],
        "lora": lambda: v["a"] @ v["b"],
        "vera": lambda: (
            np.diag(v["scale_b"])
            @ v["frozen_b"]
            @ np.diag(v["scale_d"])
            @ v["frozen_a"]
        ),
        "vera_scalar": lambda: v["scale"] * v["direction"],
        "dora": lambda: (
            v["magnitude"]
            * (base + (v["a"] @ v["b"]).ravel())
            / np.linalg.norm(base + (v["a"] @ v["b"]).ravel())
            - base
        ),
        "pissa": lambda: v["a"] @ v["b"] - v["a_start"] @ v["b_start"],
    }[name]()
    np.testing.assert_allclose(delta(values), expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "architecture"), spread(FORMS, ["bert", "llama"])
)
def test_forms_train_save_load_and_merge(name, architecture, tmp_path):
    architecture = TABLE[architecture]
    x, y = architecture.data()
    model = architecture.build()
    before = outputs(model, x)
    adapter = kd.adapters.ValueBias(form=FORMS[name])
    if architecture.name == "llama" and name in ("dora", "pissa"):
        with pytest.raises(ValueError, match="Expected a pretrained bias"):
            kd.adapters.apply(model, adapter)
        return
    kd.adapters.apply(model, adapter)
    np.testing.assert_allclose(outputs(model, x), before, atol=1e-6)
    debiased = kd.DebiasedModel(model, seed=0)
    debiased.compile(keras.optimizers.Adam(0.05), loss=architecture.loss())
    weights = [np.array(ops.convert_to_numpy(v)) for v in model.weights]
    trains = [v.trainable for v in model.weights]
    debiased.fit(x, y, epochs=3, verbose=0)
    for variable, weight, train in zip(model.weights, weights, trains):
        moved = not np.array_equal(ops.convert_to_numpy(variable), weight)
        assert moved == train, variable.path
    trained = outputs(model, x)

    kd.adapters.save(model, tmp_path / "adapter")
    loaded = kd.adapters.load(architecture.build(), tmp_path / "adapter")
    np.testing.assert_allclose(outputs(loaded, x), trained, atol=1e-6)

    path = tmp_path / "model.keras"
    debiased.save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_allclose(outputs(again.model, x), trained, atol=1e-6)
    with kd.adapters.disabled(model), kd.adapters.disabled(again):
        off = outputs(model, x)
        assert np.abs(off - trained).max() > 1e-3
        np.testing.assert_allclose(outputs(again.model, x), off, atol=1e-6)

    if architecture.name == "llama":
        with pytest.raises(ValueError, match="Keep the adapter"):
            kd.adapters.merge(model)
        # A file of the bare network could not be loaded: refused.
        with pytest.raises(ValueError, match="injected"):
            model.save_weights(tmp_path / "bare.weights.h5")
        return
    kd.adapters.merge(model)
    np.testing.assert_allclose(outputs(model, x), trained, atol=1e-5)
    fresh = architecture.build(seed=1)
    model.save_weights(tmp_path / "bare.weights.h5")
    fresh.load_weights(tmp_path / "bare.weights.h5")
    np.testing.assert_allclose(outputs(fresh, x), trained, atol=1e-5)


# Fused projections.


def fused_model():
    backbone = keras_hub.models.GPTNeoXBackbone(
        vocabulary_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=8,
        max_sequence_length=6,
    )
    for variable in backbone.trainable_variables:
        variable.assign(0.4 * RNG.standard_normal(variable.shape))
    return backbone


@pytest.mark.parametrize("form", ["vector", "lora", "pissa"])
def test_a_fused_projection_trains_its_third(form):
    model = fused_model()
    x = {
        "token_ids": RNG.integers(0, 8, (2, 5)),
        "padding_mask": np.ones((2, 5), "int32"),
    }
    layer = attentions(model)[0].value.layer
    base = np.array(ops.convert_to_numpy(layer.bias))
    assert base.shape == (2, 24)
    before = outputs(model, x)
    kd.adapters.apply(
        model,
        [
            kd.adapters.ValueBias(form=FORMS[form]),
            kd.adapters.QueryBias(),
        ],
        also_train=(),
    )
    np.testing.assert_allclose(outputs(model, x), before, atol=1e-6)
    draw(model.trainable_variables)
    trained = outputs(model, x)
    assert np.abs(trained - before).max() > 1e-2
    with pytest.raises(ValueError, match="not train yet"):
        kd.adapters.apply(
            model, kd.adapters.AllBiases(targets="query_key_value")
        )
    kd.adapters.merge(model)
    np.testing.assert_allclose(outputs(model, x), trained, atol=1e-5)
    change = ops.convert_to_numpy(layer.bias) - base
    assert (change[:, 8:16] == 0).all()  # the keys
    assert (change[:, :8] != 0).all() and (change[:, 16:] != 0).all()
    assert type(layer) is keras.layers.EinsumDense


def test_keys_of_a_fused_projection_are_inert_without_rotation():
    inputs = keras.Input((5, 8))
    fused = keras.layers.Dense(24, name="qkv")(inputs)
    query, key, value = ops.split(fused, 3, axis=-1)
    attended = keras.layers.Attention(score_mode="dot")([query, value, key])
    model = keras.Model(inputs, attended)
    x = RNG.standard_normal((2, 5, 8)).astype("float32")
    before = outputs(model, x)
    kd.adapters.apply(model, kd.adapters.KeyBias(), also_train=())
    draw(model.trainable_variables)
    np.testing.assert_allclose(outputs(model, x), before, atol=1e-5)
    kd.adapters.merge(model)
    kd.adapters.apply(model, kd.adapters.ValueBias(), also_train=())
    draw(model.trainable_variables)
    assert np.abs(outputs(model, x) - before).max() > 0.1


# Merging an injected value bias into the output projection.


@keras.saving.register_keras_serializable(package="keras_debias_tests")
class OutputBiasOnly(keras.layers.Layer):
    """Grouped queries, no bias but that of the output projection."""

    def build(self, shape):
        def dense(name, equation, out, axes=None):
            layer = keras.layers.EinsumDense(
                equation, out, bias_axes=axes, name=name
            )
            return layer

        self.query = dense("query", "btd,dnh->btnh", (None, 4, 4))
        self.key = dense("key", "btd,dnh->btnh", (None, 2, 4))
        self.value = dense("value", "btd,dnh->btnh", (None, 2, 4))
        self.attention_output = dense(
            "attention_output", "btnh,nhd->btd", (None, 16), "d"
        )
        for layer in (self.query, self.key, self.value):
            layer.build(shape)
        self.attention_output.build((None, None, 4, 4))

    def call(self, x):
        query = self.query(x)
        key = ops.repeat(self.key(x), 2, axis=2)
        value = ops.repeat(self.value(x), 2, axis=2)
        weights = ops.softmax(ops.einsum("btnh,bsnh->bnts", query, key))
        mixed = ops.einsum("bnts,bsnh->btnh", weights, value)
        return self.attention_output(mixed)


@pytest.mark.parametrize("low_rank", [False, True])
def test_an_injected_value_bias_merges_into_the_output(low_rank):
    inputs = keras.Input((5, 16))
    model = keras.Model(inputs, OutputBiasOnly()(inputs))
    adapters = [kd.adapters.ValueBias()]
    if low_rank:
        adapters.append(
            kd.adapters.LoRA(rank=2, targets=("value", "attention_output"))
        )
    kd.adapters.apply(model, adapters, also_train=())
    names = {v.path for v in model.weights}
    draw(model.trainable_variables)
    trained = outputs(model, X)
    kd.adapters.merge(model)
    np.testing.assert_allclose(outputs(model, X), trained, atol=1e-5)
    assert {v.name for v in model.weights} == {"kernel", "bias"}
    assert len(model.weights) == 5 < len(names)
    # Keys have no such place.
    kd.adapters.apply(model, kd.adapters.KeyBias(), also_train=())
    draw(model.trainable_variables)
    with pytest.raises(ValueError, match="Keep the adapter.*add a bias"):
        kd.adapters.merge(model)


# Together with other adapters.


ORDERS = part([("bert", 1), ("llama", -1)], period=2)
if keras.config.backend() == "torch":
    # Elsewhere each takes twice as long.
    ORDERS += [("bert", -1), ("llama", 1)]


@pytest.mark.parametrize(("architecture", "order"), ORDERS)
def test_with_low_rank_on_the_same_layers(architecture, order, tmp_path):
    architecture = TABLE[architecture]
    x, y = architecture.data()
    model = architecture.build()
    before = outputs(model, x)
    both = [kd.adapters.LoRA(rank=2), kd.adapters.ValueBias()][::order]
    kd.adapters.apply(model, both)
    debiased = kd.DebiasedModel(model, projection=kd.projections.EDGE(), seed=0)
    debiased.compile(keras.optimizers.Adam(0.02), loss=architecture.loss())
    debiased.fit(x, y, epochs=2, verbose=0)
    trained = outputs(model, x)
    assert np.abs(trained - before).max() > 1e-2
    kd.adapters.save(model, tmp_path / "adapter")
    loaded = kd.adapters.load(
        architecture.build(), tmp_path / "adapter", trainable=True
    )
    np.testing.assert_allclose(outputs(loaded, x), trained, atol=1e-5)
    paths = {p for p, _, _ in kd.adapters.summary(loaded).rows}
    assert paths == {p for p, _, _ in kd.adapters.summary(model).rows}
    debiased.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(again.model, x), trained, atol=1e-5)
    if architecture.name == "bert":
        kd.adapters.merge(loaded)
        np.testing.assert_allclose(outputs(loaded, x), trained, atol=1e-5)


def test_disabled_is_the_pretrained_model_when_lora_trains_biases():
    architecture = TABLE["gpt2"]
    x, y = architecture.data()
    model = architecture.build()
    before = outputs(model, x)
    kd.adapters.apply(model, kd.adapters.LoRA(rank=1, train_bias=True))
    with pytest.raises(ValueError, match="not train yet"):
        kd.adapters.apply(model, kd.adapters.ValueBias())
    model.compile(keras.optimizers.Adam(0.05), loss=architecture.loss())
    model.fit(x, y, shuffle=False, verbose=0)
    trained = outputs(model, x)
    with kd.adapters.disabled(model):
        np.testing.assert_allclose(outputs(model, x), before, atol=1e-6)
    np.testing.assert_allclose(outputs(model, x), trained, atol=1e-6)


# Wrong input.


def test_bad_input():
    with pytest.raises(TypeError, match="form of a bias"):
        kd.adapters.ValueBias(form="lora")
    with pytest.raises(ValueError, match="`rank` to be a positive"):
        kd.adapters.LoRABias(rank=0)
    with pytest.raises(ValueError, match="`initial_scale`"):
        kd.adapters.VeRABias(initial_scale=0.0)
    model = TABLE["bert"].build()
    for form, message in (
        (kd.adapters.LoRABias(rows=3), "Choose one of: 1 x 8, 2 x 4"),
        (kd.adapters.LoRABias(rank=3), "`rank` to be at most 2"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.adapters.apply(model, kd.adapters.ValueBias(form=form))
    assert not adapted_layers(model)


def test_no_attention_and_unknown_attention():
    with pytest.raises(ValueError, match="Expected a model with attention"):
        kd.adapters.apply(
            TABLE["sequential"].build(),
            kd.adapters.ValueBias(),
            also_train=("logits",),
        )

    class OddAttention(keras.layers.Layer):
        def build(self, shape):
            self.first = keras.layers.Dense(16, name="first")
            self.first.build(shape)

        def call(self, x):
            return self.first(x)

    class GatedLinearAttention(OddAttention):
        pass

    inputs = keras.Input((5, 16))
    model = keras.Model(inputs, OddAttention()(inputs))
    with pytest.raises(ValueError, match="can be told apart.*'first'"):
        kd.adapters.apply(model, kd.adapters.ValueBias(), also_train=())
    # The way out: say which one it is.
    kd.adapters.apply(model, kd.adapters.ValueBias(targets="first"), ())
    assert kd.adapters.summary(model).trainable == 16
    model = keras.Model(inputs, GatedLinearAttention()(inputs))
    with pytest.raises(ValueError, match="with a softmax"):
        kd.adapters.apply(model, kd.adapters.ValueBias(), also_train=())


def test_twice_and_other_bases(tmp_path):
    architecture = TABLE["bert"]
    model = architecture.build()
    kd.adapters.apply(model, kd.adapters.ValueBias())
    with pytest.raises(ValueError, match="not train yet"):
        kd.adapters.apply(model, kd.adapters.ValueBias())
    draw(model.trainable_variables)
    kd.adapters.save(model, tmp_path / "adapter")
    with pytest.raises(ValueError, match="base weights"):
        kd.adapters.load(architecture.build(seed=1), tmp_path / "adapter")
    # A base whose kernels agree, but not the bias that was trained.
    other = architecture.build()
    layer = attentions(other)[1].value.layer
    layer.bias.assign(ops.convert_to_numpy(layer.bias) + 1)
    with pytest.raises(ValueError, match="base weights"):
        kd.adapters.load(other, tmp_path / "adapter")
    kd.adapters.merge(model)
    with pytest.raises(ValueError, match="has none"):
        kd.adapters.merge(model)


@pytest.mark.once
def test_real_models():
    classifier = minilm(num_classes=2, load_weights=False)
    kd.adapters.apply(classifier, kd.adapters.ValueBias())
    assert kd.adapters.summary(classifier).trainable == 6 * 384 + 770
    causal_lm = smollm2(load_weights=False)
    kd.adapters.apply(causal_lm, kd.adapters.ValueBias())
    summary = kd.adapters.summary(causal_lm)
    # 30 layers, 3 value heads of 64.
    assert summary.trainable == 30 * 3 * 64
    assert {shape for _, shape, _ in summary.rows} == {(192,)}
