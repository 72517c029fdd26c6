"""Encoder-decoders: adapters, EDGE, regularizers, and `generate`."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import randomize
from tests.combinations import part

# KerasHub's own layers of T5 warn of lost masks.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .*mask:UserWarning")

SIZES = {
    **{"vocabulary_size": 32, "num_layers": 2, "num_heads": 2},
    **{"hidden_dim": 8, "intermediate_dim": 12, "dropout": 0.0},
}


def bart():
    backbone = keras_hub.models.BartBackbone(**SIZES, max_sequence_length=8)
    return keras_hub.models.BartSeq2SeqLM(backbone, preprocessor=None)


def t5():
    backbone = keras_hub.models.T5Backbone(**SIZES)
    return keras_hub.models.T5Seq2SeqLM(backbone, preprocessor=None)


MODELS = {"bart": bart, "t5": t5}
# The blocks of the encoder come first: the last one is the decoder's.
ADAPTERS = {
    "LoRA": (lambda: kd.adapters.LoRA(2), True),
    "ValueBias": (kd.adapters.ValueBias, "bart"),
    "TargetLayer": (lambda: kd.adapters.TargetLayer(3), "bart"),
    "IA3": (kd.adapters.IA3, True),
}


def build(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    randomize(model, 0)
    model.compile(sampler="greedy")
    return model


def data():
    generator = np.random.default_rng(0)
    x = {}
    for side in ("encoder", "decoder"):
        ids = generator.integers(3, 32, (4, 6)).astype("int32")
        x[f"{side}_token_ids"] = ids
        x[f"{side}_padding_mask"] = np.ones_like(ids)
    return x, np.roll(x["decoder_token_ids"], -1, axis=1)


def outputs(model):
    found = model(data()[0], training=False)
    return np.array(ops.convert_to_numpy(found))


def generated(model):
    x, _ = data()
    mask = x["decoder_padding_mask"] * (np.arange(6) < 2)
    prompt = {
        **x,
        "decoder_token_ids": x["decoder_token_ids"] * mask,
        "decoder_padding_mask": mask.astype("int32"),
    }
    found = model.generate(prompt, stop_token_ids=None)
    return np.array(found["decoder_token_ids"]).tolist()


CASES = [(model, adapter) for model in MODELS for adapter in ADAPTERS]
if keras.config.backend() != "torch":
    # Traces take seconds.
    CASES = part([("bart", "LoRA"), ("t5", "ValueBias")], period=2)


@pytest.mark.parametrize(("name", "adapter"), CASES)
def test_trains_generates_and_merges(name, adapter, tmp_path):
    create, merges = ADAPTERS[adapter]
    model = build(name)
    start, said = outputs(model), generated(model)
    kd.adapters.apply(model, create())
    np.testing.assert_allclose(outputs(model), start, atol=1e-5)
    debiased = kd.DebiasedModel(
        model,
        kd.projections.EDGE(),
        regularizers=kd.regularizers.ba_lora(k=1),
        seed=0,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    debiased.compile(keras.optimizers.Adam(0.1), loss=loss)
    history = debiased.fit(*data(), epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    trained = outputs(model)
    assert np.abs(trained - start).max() > 0.01
    with kd.adapters.disabled(model):
        np.testing.assert_allclose(outputs(model), start, atol=1e-5)
        assert generated(model) == said
    assert generated(model) == greedy(model)

    kd.adapters.save(model, tmp_path / "adapter")
    again = kd.adapters.load(build(name), tmp_path / "adapter")
    np.testing.assert_allclose(outputs(again), trained, atol=1e-5)
    if merges in (True, name):
        kd.adapters.merge(model)
        np.testing.assert_allclose(outputs(model), trained, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="Keep the adapter"):
            kd.adapters.merge(model)


def greedy(model):
    """Token by token, without a cache."""
    x, _ = data()
    ids = x["decoder_token_ids"] * (np.arange(6) < 2)
    for place in range(2, 6):
        mask = np.ones_like(ids) * (np.arange(6) < place)
        given = {
            **x,
            "decoder_token_ids": ids.astype("int32"),
            "decoder_padding_mask": mask.astype("int32"),
        }
        found = model(given, training=False)
        logits = np.array(ops.convert_to_numpy(found))
        ids[:, place] = logits[:, place - 1].argmax(-1)
    return ids.tolist()


@pytest.mark.once
@pytest.mark.parametrize("name", MODELS)
def test_padding_of_either_sequence_does_not_count_for_corda(name):
    """Both are of one length, so only the layer says which mask is its own."""
    x, _ = data()
    x["encoder_padding_mask"][:, 3:] = 0
    x["decoder_padding_mask"][:, 5:] = 0
    other = {key: value.copy() for key, value in x.items()}
    for side, end in (("encoder", 3), ("decoder", 5)):
        other[f"{side}_token_ids"][:, end:] = 2
    starts = []
    for rows in (x, other):
        model = build(name)
        adapter = kd.adapters.CorDA(2, targets=("query", "key", "value"))
        kd.adapters.apply(model, adapter, data=rows)
        starts.append(
            {v.path: ops.convert_to_numpy(v) for v in model.trainable_variables}
        )
    assert len(starts[0]) == 2 * 3 * (2 + 2 + 2)
    for path, start in starts[0].items():
        np.testing.assert_allclose(starts[1][path], start, atol=1e-4)
