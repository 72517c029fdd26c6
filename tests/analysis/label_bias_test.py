"""Target layers, early exits and bias neurons on models that are known."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.selection import layer_paths
from keras_debias.analysis import find_target_layer
from tests import toy_language

TEMPLATE = "Review: {text}\nEmotion:"


def classifier(labels=toy_language.LABELS, **kwargs):
    return kd.models.LabelWordClassifier(
        toy_language.gpt2(**kwargs), labels, TEMPLATE, sequence_length=40
    )


def data(count=12):
    x, y = toy_language.texts(count)
    return kd.data.Split(x, y, label_names=toy_language.LABELS)


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def silence(model, layer):
    """Takes away what the attention of a layer has to say."""
    (output,) = blocks(model)[layer].modules["attention_output"]
    for weight in output.weights:
        weight.assign(np.zeros(weight.shape, "float32"))


def test_the_layer_that_speaks_is_found():
    for quiet, target in ((0, 1), (1, 0)):
        model = classifier()
        silence(model, quiet)
        classes = [type(layer) for layer in model.backbone.layers]
        weights = model.get_weights()
        found = find_target_layer(model, data(), samples=8, batch_size=4)
        assert found.layer == target
        assert found.curve[quiet] == pytest.approx(0.0, abs=1e-9)
        assert found.curve[target] > 1e-4
        if quiet:
            again = find_target_layer(model, data(), samples=8, batch_size=4)
            assert again == found
        # Nothing is left behind.
        assert [type(layer) for layer in model.backbone.layers] == classes
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(after, before)


def test_the_divergence_is_that_of_the_exchange(tmp_path):
    """The last layer by hand: the attention of the wrong label, one MLP."""
    model = classifier()
    (output,) = blocks(model)[1].modules["attention_output"]
    values = blocks(model)[1].modules["value"]
    # Large enough for single precision.
    for layer in (output, *values):
        kernel = np.array(ops.convert_to_numpy(layer.kernel))
        layer.kernel.assign(6.0 * kernel)
    split = data(5)
    found = find_target_layer(model, split, samples=5, seed=3)
    tokenizer = model.causal_lm.preprocessor.tokenizer
    last = model.backbone.transformer_layers[1]
    before_last = keras.Model(
        model.backbone.input, model.backbone.transformer_layers[0].output
    )
    parts = {layer.name: layer for layer in layer_paths(last).values()}
    expected = []
    drawn = np.random.default_rng(3).permutation(5)
    for row, (label, wrong) in zip(drawn, found.pairs, strict=True):
        sides = []
        for word in (label, wrong):
            text = TEMPLATE.format(text=split.x[row]) + f" {word}"
            ids = [tokenizer.start_token_id, *np.array(tokenizer(text))]
            x = {
                "token_ids": np.array([ids], "int32"),
                "padding_mask": np.ones((1, len(ids)), "int32"),
            }
            hidden = before_last(x)
            normal = parts["self_attention_layer_norm"](hidden)
            causal = np.tri(len(ids), dtype="bool")[None]
            attention = parts["self_attention"](
                normal, normal, attention_mask=ops.convert_to_tensor(causal)
            )
            sides.append((array(hidden)[:, -1:], array(attention)[:, -1:]))

        def distribution(state, attention):
            x = ops.convert_to_tensor((state + attention).astype("float32"))
            h = parts["feedforward_layer_norm"](x)
            h = parts["feedforward_intermediate_dense"](h)
            x = x + parts["feedforward_output_dense"](h)
            x = model.backbone.layer_norm(x)
            z = array(model.backbone.token_embedding(x, reverse=True))[0, 0]
            z = z - z.max()
            return z - np.log(np.exp(z).sum())

        (state, own), (_, other) = sides
        p, q = distribution(state, own), distribution(state, other)
        expected.append(np.sum(np.exp(p) * (p - q)))
    assert found.curve[1] == pytest.approx(np.mean(expected), rel=1e-3)
    found.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_labels_that_the_model_takes_for_the_same_are_refused():
    model = classifier()
    ids = [ids[0] for ids in model.label_tokens]
    embedding = model.backbone.token_embedding.embeddings
    values = np.array(ops.convert_to_numpy(embedding.value))
    values[ids] = values[ids[0]]
    embedding.assign(values)
    with pytest.raises(ValueError, match="tells apart"):
        find_target_layer(model, data(), samples=6)
    with pytest.raises(ValueError, match="from 1 to 12"):
        find_target_layer(model, data(), samples=13)
    with pytest.raises(TypeError, match="LabelWordClassifier"):
        find_target_layer(model.causal_lm, data())


def test_labels_of_unequal_length():
    model = classifier(("joy", "very sad", "anger"))
    split = kd.data.Split(toy_language.texts(6)[0], np.arange(6) % 3)
    found = find_target_layer(model, split, samples=6)
    assert min(found.curve) > 0
    assert ("very sad", "joy") in found.pairs or len(set(found.pairs)) > 1


@pytest.mark.filterwarnings("ignore:.*prompts are longer")
@pytest.mark.parametrize("first_token", [False, True])
def test_prompts_as_long_as_the_model_reads(first_token):
    """With a whole label behind the prompt, nothing is left over."""
    model = kd.models.LabelWordClassifier(
        toy_language.gpt2(length=24),
        ("joy", "very sad", "anger"),
        TEMPLATE,
        sequence_length=24,
        first_token=first_token,
    )
    texts = np.array(["the day was very mad and the dog " * 4] * 6, object)
    split = kd.data.Split(texts, np.arange(6) % 3)
    found = find_target_layer(model, split, samples=6)
    assert min(found.curve) > 0


ONE_OR_MORE = [("joy", "very sad"), toy_language.LABELS]


@pytest.mark.parametrize(
    "labels",
    ONE_OR_MORE if keras.config.backend() == "torch" else ONE_OR_MORE[:1],
)
def test_early_exits(labels, tmp_path):
    model = classifier(labels)
    x, y = toy_language.texts(8)
    y = np.minimum(y, len(labels) - 1)
    found = kd.analysis.bias_accumulation(
        model, kd.data.Split(x, y, label_names=labels), batch_size=3
    )
    assert found.contain.shape == (2, len(labels))
    # The last exit is the model itself.
    scores = model.predict(x, verbose=0)
    for label in range(len(labels)):
        rows = y == label
        np.testing.assert_allclose(
            [found.contain[-1, label], found.lack[-1, label]],
            [scores[rows, label].mean(), scores[~rows, label].mean()],
            atol=1e-5,
        )
    # An identity as the last block: both exits say the same.
    silence(model, 1)
    for dense in blocks(model)[1].modules["feedforward_output"]:
        for weight in dense.weights:
            weight.assign(np.zeros(weight.shape, "float32"))
    same = kd.analysis.bias_accumulation(model, kd.data.Split(x, y))
    np.testing.assert_allclose(same.contain[0], same.contain[1], atol=1e-5)
    found.plot_contain(tmp_path / "contain.png")
    found.plot_labels(tmp_path / "labels.png", labels[:2])
    assert (tmp_path / "labels.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`labels` among"):
        found.plot_labels(tmp_path / "labels.png", ["grief"])


def test_prompts_do_not_shift_what_early_exits_read():
    """Without attention, the first block gives what it does without them."""
    model = classifier()
    silence(model, 0)
    plain = kd.analysis.bias_accumulation(model, data())
    kd.adapters.apply(model, kd.adapters.PromptTuning(length=3, stddev=1.0))
    found = kd.analysis.bias_accumulation(model, data())
    np.testing.assert_allclose(found.contain[0], plain.contain[0], atol=1e-5)
    assert np.abs(found.contain[1] - plain.contain[1]).max() > 1e-4
    scores = model.predict(data().x, verbose=0)
    np.testing.assert_allclose(
        found.contain[1],
        [scores[data().y == i, i].mean() for i in range(3)],
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="Search before `PromptTuning`"):
        find_target_layer(model, data(), samples=6)


def test_a_planted_bias_neuron_is_found_and_pruned():
    model = classifier()
    split = data()
    # Neuron 5 of layer 1 is on for all tokens and speaks for "anger" alone.
    block = blocks(model)[1]
    (inner,) = block.modules["feedforward_intermediate"]
    (outer,) = block.modules["feedforward_output"]
    kernel, bias = (np.array(ops.convert_to_numpy(w)) for w in inner.weights)
    kernel[:, 5], bias[5] = 0.0, 3.0
    inner.set_weights([kernel, bias])
    kernel, bias = (np.array(ops.convert_to_numpy(w)) for w in outer.weights)
    norm = model.backbone.layer_norm
    embedding = np.array(
        ops.convert_to_numpy(model.backbone.token_embedding.embeddings)
    )
    ids = [ids[0] for ids in model.label_tokens]
    others = embedding[[ids[0], ids[1]]].mean(axis=0)
    kernel[5] = 2.0 * (embedding[ids[2]] - others)
    outer.set_weights([kernel, bias])
    assert norm.built
    not_anger = split.take(split.y != 2)
    before = model.predict(not_anger.x, verbose=0)
    found = kd.analysis.find_bias_neurons(
        model, not_anger, count=3, samples=len(not_anger)
    )
    assert found[0].index == 5
    assert found[0].path.startswith("transformer_layer_1/")
    weights = model.get_weights()
    kd.analysis.prune_neurons(model, found[:1])
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(weights, model.get_weights(), strict=True)
    ]
    assert sum(changed) == 1
    np.testing.assert_array_equal(np.array(outer.kernel)[5], 0.0)
    after = model.predict(not_anger.x, verbose=0)

    def share(scores):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (scores / scores.sum(axis=1, keepdims=True))[:, 2].mean()

    assert share(after) < share(before) - 0.05
    with pytest.raises(ValueError, match="neurons of this model"):
        kd.analysis.prune_neurons(
            model, [kd.analysis.BiasNeuron("nowhere", 0, 1.0)]
        )


@pytest.mark.once
@pytest.mark.parametrize("adapter", ["LoRA", "PiSSA"])
def test_neurons_of_adapted_layers_are_those_of_the_merged_model(adapter):
    def build():
        model = classifier()
        kd.adapters.apply(
            model,
            getattr(kd.adapters, adapter)(2, targets="*_output_dense"),
        )
        generator = np.random.default_rng(0)
        for variable in model.trainable_variables:
            noise = generator.standard_normal(variable.shape)
            variable.assign_add(noise.astype("float32"))
        return model

    model, merged = build(), kd.adapters.merge(build())
    found = kd.analysis.find_bias_neurons(model, data(), samples=6)
    expected = kd.analysis.find_bias_neurons(merged, data(), samples=6)
    places = [(neuron.path, neuron.index) for neuron in found]
    assert places == [(neuron.path, neuron.index) for neuron in expected]
    np.testing.assert_allclose(
        [neuron.attribution for neuron in found],
        [neuron.attribution for neuron in expected],
        atol=1e-5,
    )
    kd.analysis.prune_neurons(model, [*found, found[0]])
    kd.analysis.prune_neurons(merged, found)
    np.testing.assert_allclose(
        model.predict(data().x, verbose=0),
        merged.predict(data().x, verbose=0),
        atol=1e-4,
    )


def test_neurons_that_cannot_be_pruned_whole_stay():
    model = classifier()
    kd.adapters.apply(model, kd.adapters.DoRA(2, targets="*_output_dense"))
    weights = model.get_weights()
    path = "transformer_layer_1/feedforward_output_dense"
    with pytest.raises(ValueError, match="Merge it first"):
        kd.analysis.prune_neurons(model, [kd.analysis.BiasNeuron(path, 0, 1.0)])
    with pytest.raises(ValueError, match="neurons of this model"):
        kd.analysis.prune_neurons(
            model, [kd.analysis.BiasNeuron("layer_norm", 0, 1.0)]
        )
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
