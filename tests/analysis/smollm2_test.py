"""Analyses of label words on the real SmolLM2, with planted answers."""

import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.blocks import blocks
from tests.real_models import smollm2

LABELS = ("anger", "joy", "sadness")
TEXTS = [
    "I am so happy today!",
    "This makes me furious.",
    "My dog died last week.",
    "What a lovely surprise, thank you!",
    "How dare you say that to me?",
    "Nobody came to see me.",
]


def data():
    y = np.array([1, 0, 2, 1, 0, 2])
    return kd.data.Split(TEXTS, y, label_names=LABELS)


@pytest.fixture(scope="module")
def loaded():
    causal_lm = smollm2()
    classifier = kd.models.LabelWordClassifier(
        causal_lm, LABELS, "{text}\nEmotion:", sequence_length=16
    )
    return classifier, classifier.get_weights()


@pytest.fixture
def classifier(loaded):
    """As it was shipped, whatever the last test did."""
    model, weights = loaded
    model.set_weights(weights)
    return model


def mute_attention(model, but=None):
    for number, block in enumerate(blocks(model)):
        if number != but:
            (output,) = block.modules["attention_output"]
            output.kernel.assign(ops.zeros_like(output.kernel.value))


def search(model):
    return kd.analysis.find_target_layer(model, data(), samples=1, batch_size=1)


def test_the_only_attention_that_speaks_is_found(classifier):
    mute_attention(classifier, but=22)
    found = search(classifier)
    assert found.layer == 22
    others = [value for i, value in enumerate(found.curve) if i != 22]
    assert found.curve[22] > 1e-3
    assert max(others) < 1e-6


def test_silent_attention_has_no_target_layer(classifier):
    mute_attention(classifier)
    with pytest.raises(ValueError, match="no layer's attention makes a diff"):
        search(classifier)


def plant_neuron(model, layer, index, label):
    """It is never below zero, and speaks for one label alone."""
    modules = blocks(model)[layer].modules
    (gate,) = modules["feedforward_gate"]
    (inner,) = modules["feedforward_intermediate"]
    (outer,) = modules["feedforward_output"]
    kernel = np.array(ops.convert_to_numpy(inner.kernel))
    # `silu(x) x` has the sign of a square.
    for each in (gate, inner):
        changed = np.array(ops.convert_to_numpy(each.kernel))
        changed[:, index] = 2.0 * kernel[:, index]
        each.kernel.assign(changed)
    embedding = np.array(
        ops.convert_to_numpy(model.backbone.token_embedding.embeddings)
    )
    words = np.stack([embedding[ids[0]] for ids in model.label_tokens])
    kernel = np.array(ops.convert_to_numpy(outer.kernel))
    kernel[index] = 2.0 * (words[label] - words.mean(axis=0))
    outer.kernel.assign(kernel)


def test_a_planted_bias_neuron_is_found(classifier):
    plant_neuron(classifier, layer=28, index=77, label=0)
    split = data().take([0, 2, 3, 5])
    before = classifier.predict(split.x, verbose=0)
    found = kd.analysis.find_bias_neurons(classifier, split, 3, samples=4)
    assert found[0].index == 77
    assert "28" in found[0].path
    assert found[0].attribution > 1.3 * found[1].attribution
    kd.analysis.prune_neurons(classifier, found[:1])
    after = classifier.predict(split.x, verbose=0)
    margin = [s[:, 0] - s[:, 1:].mean(axis=1) for s in (before, after)]
    assert np.all(margin[1] < margin[0])


def test_neurons_that_say_nothing_are_not_found(classifier):
    for block in blocks(classifier):
        (outer,) = block.modules["feedforward_output"]
        outer.kernel.assign(ops.zeros_like(outer.kernel.value))
    assert kd.analysis.find_bias_neurons(classifier, data(), samples=6) == []


def test_early_exits_end_at_the_scores(classifier):
    """A planted neuron shows from its layer on, and not before."""
    split = data()
    plain = kd.analysis.bias_accumulation(classifier, split)
    plant_neuron(classifier, layer=20, index=3, label=0)
    planted = kd.analysis.bias_accumulation(classifier, split)
    change = planted.contain - plain.contain
    gain = change[:, 0] - change[:, 1:].mean(axis=1)
    assert np.abs(gain[:20]).max() < 1e-3
    assert gain[20] > 0.1
    scores = classifier.predict(split.x, verbose=0)
    own = [scores[split.y == i, i].mean() for i in range(len(LABELS))]
    np.testing.assert_allclose(planted.contain[-1], own, atol=1e-2)
