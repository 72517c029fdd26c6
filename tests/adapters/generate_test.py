"""Adapters under `generate`, and on the embedded real models."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.real_models import minilm
from tests.real_models import smollm2

TABLE = {a.name: a for a in ARCHITECTURES}


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("name", part(["gpt2", "llama"], period=2))
def test_compiled_generate_follows_disable_and_merge(name):
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
    kd.adapters.apply(model, kd.adapters.LoRA(rank=2, targets="*_output*"))
    assert generate() == base
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(2 * generator.standard_normal(variable.shape))
    adapted = generate()
    assert adapted != base
    with kd.adapters.disabled(model):
        assert generate() == base
    assert generate() == adapted
    wrapped = kd.DebiasedModel(model)
    found = wrapped.generate(prompt, stop_token_ids=None)
    assert np.array(found["token_ids"]).tolist() == adapted
    assert wrapped.backbone is model.backbone
    kd.adapters.merge(model)
    assert generate() == adapted


TEXTS = (
    ["A woman reads a long letter.", "Two boys carry a wooden ladder."],
    ["Somebody is reading.", "The ladder is made of steel."],
)


def logits_of(classifier):
    """Without compiling `predict`, which takes most of the time."""
    tokens = classifier.preprocess_samples(TEXTS)
    return ops.convert_to_numpy(classifier(tokens, training=False))


# Compiling takes half a minute: one real model on each of the other backends.
BACKEND = keras.config.backend()
REAL = [kd.adapters.PiSSA]
if BACKEND == "torch":
    REAL.append(kd.adapters.LoRA)


@pytest.mark.skipif(BACKEND == "jax", reason="SmolLM2 is tested there")
@pytest.mark.parametrize("adapter", REAL)
def test_real_minilm(adapter, tmp_path):
    classifier = minilm()
    start = logits_of(classifier)
    kd.adapters.apply(classifier, adapter(rank=8))
    np.testing.assert_allclose(logits_of(classifier), start, atol=1e-5)
    summary = kd.adapters.summary(classifier)
    assert summary.trainable == 73_728 + 1_155

    model = kd.DebiasedModel(classifier, kd.projections.EDGE(), seed=0)
    model.compile(keras.optimizers.Adam(1e-2), loss=logits_loss())
    split = kd.data.Split(
        TEXTS,
        ["entailment", "contradiction"],
        label_names=("entailment", "neutral", "contradiction"),
    )
    history = model.fit(split, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    trained = model.predict(TEXTS, verbose=0)
    assert np.abs(trained - start).max() > 0.01

    kd.adapters.save(model, tmp_path / "adapter")
    with kd.adapters.disabled(model):
        assert np.abs(logits_of(classifier) - trained).max() > 1e-3
    plain = kd.adapters.merge(model)
    np.testing.assert_allclose(logits_of(plain), trained, atol=1e-5)
    plain.save_to_preset(tmp_path / "preset")
    again = keras_hub.models.TextClassifier.from_preset(
        str(tmp_path / "preset")
    )
    np.testing.assert_allclose(
        again.predict(TEXTS, verbose=0), trained, atol=1e-5
    )
    loaded = kd.adapters.load(minilm(), tmp_path / "adapter")
    np.testing.assert_allclose(logits_of(loaded), trained, atol=1e-5)


@pytest.mark.once
def test_an_adapted_task_saved_to_a_preset_is_merged(tmp_path):
    classifier = minilm()
    kd.adapters.apply(
        classifier,
        kd.adapters.LoRA(rank=4, targets=("query", "pooled_dense")),
    )
    generator = np.random.default_rng(0)
    for variable in classifier.trainable_variables:
        noise = 0.05 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    expected = logits_of(classifier)
    classifier.save_to_preset(tmp_path / "preset")
    again = keras_hub.models.TextClassifier.from_preset(
        str(tmp_path / "preset")
    )
    np.testing.assert_allclose(logits_of(again), expected, atol=1e-4)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="MiniLM is tested there")
def test_real_smollm2():
    """Its own answer before, under `disabled`, and with a zero update."""
    causal_lm = smollm2()
    causal_lm.compile(sampler="greedy")
    preprocessor = causal_lm.preprocessor
    tokens = preprocessor.generate_preprocess(
        ["The capital of France is"], sequence_length=12
    )
    inputs = {k: np.array(ops.convert_to_numpy(v)) for k, v in tokens.items()}

    def logits():
        return ops.convert_to_numpy(causal_lm(inputs))

    start = logits()
    kd.adapters.apply(
        causal_lm, kd.adapters.PiSSA(rank=8, targets=("query", "value"))
    )
    np.testing.assert_allclose(
        logits(),
        start,
        atol=1e-5 * np.abs(start).max(),
    )
    # 30 layers of width 576 with 9 heads and 3 key-value heads of size 64.
    assert kd.adapters.summary(causal_lm).trainable == 30 * 8 * (
        (576 + 576) + (576 + 192)
    )
    generator = np.random.default_rng(0)
    for variable in causal_lm.trainable_variables:
        noise = 0.01 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    moved = logits()
    scale = np.abs(start).max()
    assert np.abs(moved - start).max() > 1e-3 * scale
    with kd.adapters.disabled(causal_lm):
        np.testing.assert_allclose(logits(), start, atol=1e-5 * scale)
    kd.adapters.merge(causal_lm)
    # Padding attends to little but itself, where rounding grows: one unit in
    # the last place of the kernels makes 1e-5 of the logits there.
    real = inputs["padding_mask"].astype(bool)
    np.testing.assert_allclose(logits()[real], moved[real], atol=1e-5 * scale)
