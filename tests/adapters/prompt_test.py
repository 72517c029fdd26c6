"""Prompt tuning: vectors before the embedded tokens, cached or not."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.adapters.prefix_test import DECODERS
from tests.adapters.prefix_test import TABLE
from tests.adapters.prefix_test import check_cached_generation
from tests.adapters.prefix_test import outputs
from tests.combinations import spread


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def prompted(name, length=3, seed=0):
    model = TABLE[name].build()
    keras.utils.set_random_seed(seed)
    kd.adapters.apply(
        model,
        kd.adapters.PromptTuning(length, stddev=1.0),
        also_train=TABLE[name].also_train,
    )
    return model


def prompt_of(model):
    (prompt,) = (v for v in model.weights if v.name == "prompt")
    return prompt


def test_vectors_of_tokens_are_those_tokens():
    # A prompt of embedded tokens is these tokens before the input: positions
    # are relative, and causal attention sees what comes before alone.
    model = TABLE["llama"].build()
    x, _ = TABLE["llama"].data(seed=0)
    ids = np.asarray(x["token_ids"])
    first = np.array([[7, 2, 5]], ids.dtype).repeat(len(ids), 0)
    ones = np.ones_like(first)
    longer = {
        "token_ids": np.concatenate([first, ids], 1),
        "padding_mask": np.concatenate([ones, x["padding_mask"]], 1),
    }
    expected = outputs(model, longer)[:, 3:]
    embedded = array(model.backbone.token_embedding(first[:1]))[0]
    kd.adapters.apply(model, kd.adapters.PromptTuning(3))
    prompt_of(model).assign(embedded)
    real = np.asarray(x["padding_mask"]).astype(bool)
    np.testing.assert_allclose(
        outputs(model, x)[real], expected[real], atol=1e-4
    )


def test_an_encoder_reads_it_as_a_part_of_the_sequence():
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 8))
    mask = keras.Input((None,), dtype="bool")
    hidden = x
    for index in range(2):
        block = keras_hub.layers.TransformerEncoder(
            16, 2, name=f"transformer_layer_{index}"
        )
        hidden = block(hidden, padding_mask=mask)
    model = keras.Model([x, mask], hidden)
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(2, 5, 8)).astype("float32")
    masks = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    prompt = generator.normal(size=(3, 8)).astype("float32")
    longer = np.concatenate([prompt[None].repeat(2, 0), rows], 1)
    ones = np.ones((2, 3), bool)
    expected = array(model([longer, np.concatenate([ones, masks], 1)]))[:, 3:]
    kd.adapters.apply(model, kd.adapters.PromptTuning(3), also_train=())
    prompt_of(model).assign(prompt)
    found = array(model([rows, masks]))
    np.testing.assert_allclose(found[masks], expected[masks], atol=1e-5)


@pytest.mark.parametrize("name", [name for name, _ in spread(DECODERS, (0,))])
def test_cached_generation_is_that_without_a_cache(name, tmp_path):
    adapter = kd.adapters.PromptTuning(2, stddev=2.0)
    check_cached_generation(name, adapter, tmp_path)


def test_trains_and_is_saved_beside_lora(tmp_path):
    architecture = TABLE["llama"]
    model = architecture.build()
    x, y = architecture.data(seed=0)
    both = [kd.adapters.PromptTuning(2), kd.adapters.LoRA(2)]
    kd.adapters.apply(model, both)
    before = array(prompt_of(model))
    debiased = kd.DebiasedModel(
        model,
        kd.projections.EDGE(),
        regularizers=[kd.regularizers.Consistency(0.1)],
    )
    debiased.compile("sgd", loss=architecture.loss())
    debiased.fit(x, y, verbose=0)
    assert np.abs(array(prompt_of(model)) - before).max() > 0
    expected = outputs(model, x)
    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").model
    np.testing.assert_allclose(outputs(again, x), expected, atol=1e-6)


@pytest.mark.once
# Keras, of the layers that were not reached.
@pytest.mark.filterwarnings("ignore:Skipping nested:UserWarning")
def test_refusals(tmp_path):
    for name in ("t5", "deberta_v3", "vit"):
        architecture = TABLE[name]
        with pytest.raises(ValueError, match="one attention layer"):
            kd.adapters.apply(
                architecture.build(),
                kd.adapters.PromptTuning(),
                also_train=architecture.also_train,
            )
    for adapters in (
        [kd.adapters.PromptTuning(2), kd.adapters.PrefixTuning(2)],
        [kd.adapters.PrefixTuning(2), kd.adapters.PromptTuning(2)],
    ):
        model = TABLE["llama"].build()
        before = [w.path for w in model.weights]
        with pytest.raises(ValueError, match="without adapters"):
            kd.adapters.apply(model, adapters)
        assert [w.path for w in model.weights] == before
    for adapter in (kd.adapters.PromptTuning, kd.adapters.PrefixTuning):
        with pytest.raises(ValueError, match="`length` to be at most"):
            kd.adapters.apply(TABLE["bert"].build(), adapter(1_000))
    model = prompted("bert")
    with pytest.raises(ValueError, match="without adapters"):
        kd.adapters.apply(model, kd.adapters.PromptTuning(2))
    with pytest.raises(ValueError, match="without adapters"):
        kd.adapters.apply(
            model, [kd.adapters.LoRA(2), kd.adapters.PromptTuning(2)]
        )
    with pytest.raises(ValueError, match="Keep the adapter"):
        kd.adapters.merge(model)
    with pytest.raises(ValueError, match="fit the layer without adapters"):
        model.save_weights(tmp_path / "bare.weights.h5")
    TABLE["bert"].build().save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="cannot be made nothing"):
        model.load_weights(tmp_path / "plain.weights.h5")
    directions = kd.Directions(np.eye(8)[:, :1], "read")
    with pytest.raises(ValueError, match="kept from directions"):
        kd.DebiasedModel(model, kd.projections.Subspace(directions))
