"""Prefix tuning: attention to more keys and values, cached or not."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from tests.architectures import ARCHITECTURES
from tests.combinations import spread

TABLE = {a.name: a for a in ARCHITECTURES}


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def outputs(model, x):
    return array(model(x, training=False))


def test_attends_to_the_prefix_as_the_formula_says():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 5, 8)).astype("float32")
    mask = np.tril(np.ones((5, 5), bool))[None]
    layer = keras.layers.MultiHeadAttention(2, 4)
    layer.build(x.shape, x.shape)
    adapter = kd.adapters.PrefixTuning(3)
    adapter.attach(layer, None)
    for variable in layer.weights:
        if variable.name != "prefix_gate":
            variable.assign(generator.normal(size=variable.shape))

    def project(role):
        dense = getattr(layer, f"{role}_dense")
        return np.einsum("abc,cde->abde", x, array(dense.kernel)) + array(
            dense.bias
        )

    q, k, v = (project(role) for role in ("query", "key", "value"))
    k = np.concatenate([array(layer.prefix_key)[None].repeat(2, 0), k], 1)
    v = np.concatenate([array(layer.prefix_value)[None].repeat(2, 0), v], 1)
    scores = np.einsum("bthd,bshd->bhts", q, k) / 2
    allowed = np.concatenate([np.ones((1, 5, 3), bool), mask], -1)
    scores = np.exp(np.where(allowed[:, None], scores, -np.inf))
    scores = scores / scores.sum(-1, keepdims=True)
    mixed = np.einsum("bhts,bshd->bthd", scores, v)
    out = layer.output_dense
    expected = np.einsum("bthd,hdc->btc", mixed, array(out.kernel))
    expected = expected + array(out.bias)
    for given in (
        {"attention_mask": mask.repeat(2, 0)},
        {"use_causal_mask": True},
    ):
        found = array(layer(x, x, **given))
        np.testing.assert_allclose(found, expected, atol=1e-4)


# Window of three positions in `mistral`, one key and value head in most.
DECODERS = ("gpt2", "opt", "llama", "gemma", "mistral", "qwen3")


def check_cached_generation(name, adapter, tmp_path):
    """Generation with a cache, saved and disabled, against none."""
    model = TABLE[name].build()
    model.compile(sampler="greedy")
    prompt = {
        "token_ids": np.array([[5, 9, 3, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0, 0]], "int32"),
    }

    def generate():
        found = model.generate(prompt, stop_token_ids=None)
        return np.array(found["token_ids"]).tolist()

    base = generate()
    kd.adapters.apply(model, adapter)
    adapted = generate()
    ids = np.array(prompt["token_ids"])
    for place in range(3, 6):
        mask = (np.arange(6) < place)[None].astype("int32")
        given = {"token_ids": ids, "padding_mask": mask}
        ids[0, place] = outputs(model, given)[0, place - 1].argmax()
    assert ids.tolist() == adapted
    x, _ = TABLE[name].data(seed=0)
    plain = outputs(TABLE[name].build(), x)
    expected = outputs(model, x)
    assert expected.shape == plain.shape
    assert np.abs(expected - plain).max() > 0.05
    with kd.adapters.disabled(model):
        assert generate() == base
        np.testing.assert_allclose(outputs(model, x), plain, atol=1e-5)
    kd.adapters.save(model, tmp_path / "adapter")
    again = kd.adapters.load(TABLE[name].build(), tmp_path / "adapter")
    np.testing.assert_allclose(outputs(again, x), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, _ in spread(DECODERS, (0,))])
def test_cached_generation_is_that_without_a_cache(name, tmp_path):
    adapter = kd.adapters.PrefixTuning(4, stddev=2.0)
    check_cached_generation(name, adapter, tmp_path)


@pytest.mark.once
def test_other_architectures_and_refusals(tmp_path):
    for name in ("distil_bert", "gemma3", "vit", "subclassed"):
        architecture = TABLE[name]
        model = architecture.build()
        x, _ = architecture.data(seed=0)
        start = outputs(model, x)
        kd.adapters.apply(
            model,
            kd.adapters.PrefixTuning(2, stddev=1.0),
            also_train=architecture.also_train,
        )
        assert np.abs(outputs(model, x) - start).max() > 1e-3
        with kd.adapters.disabled(model):
            np.testing.assert_allclose(outputs(model, x), start, atol=1e-5)
    for name in ("t5", "deberta_v3"):
        architecture = TABLE[name]
        with pytest.raises(ValueError, match="a mask alone.*Attention"):
            kd.adapters.apply(
                architecture.build(),
                kd.adapters.PrefixTuning(),
                also_train=architecture.also_train,
            )
    model = TABLE["bert"].build()
    kd.adapters.apply(model, kd.adapters.PrefixTuning(2))
    with pytest.raises(ValueError, match="without adapters"):
        kd.adapters.apply(model, kd.adapters.PrefixTuning(2))
    with pytest.raises(ValueError, match="Keep the adapter"):
        kd.adapters.merge(model)
    with pytest.raises(ValueError, match="fit the layer without adapters"):
        model.save_weights(tmp_path / "bare.weights.h5")
    TABLE["bert"].build().save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="cannot be made nothing"):
        model.load_weights(tmp_path / "plain.weights.h5")
    debiased = kd.DebiasedModel(model, kd.projections.EDGE())
    debiased.compile("sgd", loss=TABLE["bert"].loss())
    x, y = TABLE["bert"].data(seed=0)
    debiased.fit(x, y, verbose=0)
    assert "no short form" in debiased.separate_passes
    directions = kd.Directions(np.eye(8)[:, :1], "read")
    with pytest.raises(ValueError, match="kept from directions"):
        kd.DebiasedModel(model, kd.projections.Subspace(directions))


@pytest.mark.once
def test_beside_lora_in_one_file(tmp_path):
    architecture = TABLE["llama"]
    model = architecture.build()
    x, y = architecture.data(seed=0)
    both = [kd.adapters.PrefixTuning(2), kd.adapters.LoRA(2)]
    kd.adapters.apply(model, both)
    assert len(adapted_layers(model)) == 6
    debiased = kd.DebiasedModel(
        model, regularizers=[kd.regularizers.Consistency(0.1)]
    )
    debiased.compile("sgd", loss=architecture.loss())
    debiased.fit(x, y, verbose=0)
    expected = outputs(model, x)
    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").model
    np.testing.assert_allclose(outputs(again, x), expected, atol=1e-6)
