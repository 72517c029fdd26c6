"""One layer that trains, beside the contract tests of all adapters."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.selection import variable_paths
from tests.architectures import ARCHITECTURES
from tests.real_models import smollm2

TABLE = {a.name: a for a in ARCHITECTURES}
OUTPUTS = ("*/attention_output", "*/feedforward_output_dense")


def outputs(model, x):
    return np.array(ops.convert_to_numpy(model(x, training=False)))


def trainable(model):
    return {p for p, v in variable_paths(model).items() if v.trainable}


def shake(model, seed=0):
    """Moves all that trains."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        noise = 0.3 * generator.standard_normal(variable.shape)
        variable.assign(np.array(variable) + noise.astype("float32"))


def test_blocks_come_in_the_order_of_the_model():
    expected = {
        "t5": ["encoder_layer_0", "encoder_layer_1", "decoder_layer_0"]
        + ["decoder_layer_1"],
        "vit": ["transformer_block_1", "transformer_block_2"],
        "llama": ["transformer_layer_0", "transformer_layer_1"],
    }
    for name, ends in expected.items():
        found = [b.layer.path for b in blocks(TABLE[name].build())]
        assert len(found) == len(ends)
        assert all(a.endswith(b) for a, b in zip(found, ends)), found


def test_the_vector_is_added_to_what_enters_the_block():
    model = TABLE["llama"].build()
    x, _ = TABLE["llama"].data()
    kd.adapters.apply(model, kd.adapters.TargetLayer(0, modules=()))
    (layer,) = adapted_layers(model).values()
    vector = np.linspace(-1, 1, 8).astype("float32")
    layer.refine.assign(vector)
    found = outputs(model, x)
    # The first block: what enters it are the token embeddings alone.
    plain = TABLE["llama"].build()
    backbone = plain.backbone
    hidden = backbone.token_embedding(x["token_ids"])
    hidden = hidden + ops.convert_to_tensor(vector)
    for block in backbone.transformer_layers:
        hidden = block(hidden, decoder_padding_mask=x["padding_mask"])
    hidden = backbone.layer_norm(hidden)
    logits = backbone.token_embedding(hidden, reverse=True)
    np.testing.assert_allclose(
        found, ops.convert_to_numpy(logits), rtol=0, atol=1e-5
    )


@pytest.mark.once
@pytest.mark.parametrize("target_first", [True, False])
def test_beside_lora_on_the_same_kernels(target_first, tmp_path):
    x, y = TABLE["gpt2"].data()
    model = TABLE["gpt2"].build()
    start = outputs(model, x)
    both = [kd.adapters.TargetLayer(1), kd.adapters.LoRA(2, targets=OUTPUTS)]
    kd.adapters.apply(model, both if target_first else both[::-1])
    np.testing.assert_array_equal(outputs(model, x), start)
    paths = trainable(model)
    dense = "transformer_layer_1/feedforward_output_dense"
    assert {f"{dense}/kernel", f"{dense}/lora_a", f"{dense}/lora_b"} <= paths
    assert "transformer_layer_1/refine" in paths
    assert "transformer_layer_0/feedforward_output_dense/kernel" not in paths
    assert len(paths) == 3 + 2 * 4

    wrapped = kd.DebiasedModel(model, seed=0)
    wrapped.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    wrapped.fit(x, y, batch_size=8, epochs=2, verbose=0)
    trained = outputs(model, x)
    assert np.abs(trained - start).max() > 1e-2
    with kd.adapters.disabled(model):
        np.testing.assert_allclose(outputs(model, x), start, atol=1e-6)
    np.testing.assert_array_equal(outputs(model, x), trained)
    kd.adapters.save(model, tmp_path / "adapter")
    loaded = kd.adapters.load(TABLE["gpt2"].build(), tmp_path / "adapter")
    np.testing.assert_allclose(outputs(loaded, x), trained, atol=1e-6)
    wrapped.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(again.model, x), trained, atol=1e-6)
    assert trainable(again.model) == paths
    with kd.adapters.disabled(again.model):
        np.testing.assert_allclose(outputs(again.model, x), start, atol=1e-6)
    kd.adapters.merge(model)
    np.testing.assert_allclose(outputs(model, x), trained, atol=1e-5)
    names = set(variable_paths(TABLE["gpt2"].build()))
    assert set(variable_paths(model)) == names


def test_what_cannot_be_merged_or_saved_refuses(tmp_path):
    # The first block has none before it; Llama has no biases at all.
    for name, layer in (("gpt2", 0), ("llama", 1)):
        model = TABLE[name].build()
        kd.adapters.apply(model, kd.adapters.TargetLayer(layer))
        shake(model)
        before = model.get_weights()
        with pytest.raises(ValueError, match="Keep the adapter"):
            kd.adapters.merge(model)
        for value, same in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(value, same)
        with pytest.raises(ValueError, match="adapter weights"):
            model.save_weights(tmp_path / f"{name}.weights.h5")
    # Without the vector there is nothing to place.
    model = TABLE["llama"].build()
    kd.adapters.apply(model, kd.adapters.TargetLayer(1, refine=False))
    shake(model)
    x, _ = TABLE["llama"].data()
    trained = outputs(model, x)
    model.save_weights(tmp_path / "plain.weights.h5")
    plain = TABLE["llama"].build(seed=1)
    plain.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(outputs(plain, x), trained)
    kd.adapters.merge(model)
    np.testing.assert_array_equal(outputs(model, x), trained)


# Generation takes long to compile, and is Keras' own.
@pytest.mark.parametrize(
    "name",
    ["gpt2", "gemma"] if keras.config.backend() == "torch" else ["gpt2"],
)
def test_cached_generation_is_refined_too(name):
    model = TABLE[name].build()
    model.compile(sampler="greedy")
    prompt = {
        "token_ids": np.array([[5, 9, 3, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0, 0]], "int32"),
    }

    def generate():
        found = model.generate(prompt, stop_token_ids=None)
        return np.array(found["token_ids"])[0].tolist()

    base = generate()
    kd.adapters.apply(model, kd.adapters.TargetLayer(1))
    assert generate() == base
    generator = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(3 * generator.standard_normal(variable.shape))
    adapted = generate()
    assert adapted != base
    # Without a cache, one token after another.
    tokens = [5, 9, 3]
    while len(tokens) < 6:
        padding = [0] * (6 - len(tokens))
        x = {
            "token_ids": np.array([tokens + padding], "int32"),
            "padding_mask": np.array([[1] * len(tokens) + padding], "int32"),
        }
        tokens.append(int(outputs(model, x)[0, len(tokens) - 1].argmax()))
    assert adapted == tokens
    with kd.adapters.disabled(model):
        assert generate() == base


def test_implicit_masks_pass_through():
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(32, 8, mask_zero=True)(inputs)
    for index in range(2):
        x = keras_hub.layers.TransformerEncoder(
            12, 2, name=f"transformer_layer_{index}"
        )(x)
    model = keras.Model(inputs, x)
    padded = np.array([[4, 7, 9, 0, 0, 0]], "int32")
    kd.adapters.apply(model, kd.adapters.TargetLayer(1), also_train=())
    shake(model)
    # With a mask, padding changes nothing for the tokens.
    first = outputs(model, padded)[:, :3]
    embedding = model.layers[1]
    weights = np.array(embedding.weights[0])
    weights[0] += 5.0
    embedding.weights[0].assign(weights)
    np.testing.assert_allclose(outputs(model, padded)[:, :3], first, atol=1e-6)


def test_bad_input():
    model = TABLE["gpt2"].build()
    with pytest.raises(ValueError, match="from 0 to 1.*Received: layer=2"):
        kd.adapters.apply(model, kd.adapters.TargetLayer(2))
    with pytest.raises(ValueError, match="from 0 to 1"):
        kd.adapters.apply(model, kd.adapters.TargetLayer(-1))
    with pytest.raises(ValueError, match="feedforward_gate.*has"):
        kd.adapters.apply(
            model, kd.adapters.TargetLayer(0, modules="feedforward_gate")
        )
    with pytest.raises(ValueError, match="unknown"):
        kd.adapters.TargetLayer(0, modules=("o_proj",))
    with pytest.raises(ValueError, match="something to train"):
        kd.adapters.TargetLayer(0, modules=(), refine=False)
    with pytest.raises(TypeError, match="an int"):
        kd.adapters.TargetLayer("3")
    with pytest.raises(ValueError, match="at most one adapter"):
        kd.adapters.apply(
            model, [kd.adapters.TargetLayer(1), kd.adapters.TargetLayer(1)]
        )
    assert not adapted_layers(model)


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="counts weights, computes little"
)
def test_under_one_percent_of_smollm2():
    causal_lm = smollm2()
    classifier = kd.models.LabelWordClassifier(
        causal_lm,
        ["anger", "joy", "pessimism"],
        kd.models.TEMPLATES["tweet_emotion"],
        instruction=False,
        sequence_length=24,
    )
    assert [len(ids) for ids in classifier.label_tokens] == [1, 1, 2]
    texts = ["I am so happy today!", "This makes me furious."]
    scores = classifier.predict(texts, verbose=0)
    assert scores[0, 1] - scores[0, 0] > scores[1, 1] - scores[1, 0]
    kd.adapters.apply(classifier, kd.adapters.TargetLayer(15))
    summary = kd.adapters.summary(classifier)
    # 9 heads of 64 to 576, 1,536 to 576, and the vector.
    assert summary.trainable == 576 * 576 + 1536 * 576 + 576
    assert summary.share < 0.01
    again = classifier.predict(texts, verbose=0)
    np.testing.assert_allclose(again, scores, atol=1e-4)
