"""IA3 and bottleneck adapters: values, one pass, files, refusals."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from tests.architectures import ARCHITECTURES
from tests.combinations import part

TABLE = {a.name: a for a in ARCHITECTURES}
ADAPTERS = {
    "IA3": kd.adapters.IA3,
    "Houlsby": lambda: kd.adapters.Houlsby(3),
    "Pfeiffer": lambda: kd.adapters.Pfeiffer(3),
}
# Keras says so of every layer that has nothing to quantize.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have a `quantize` method:UserWarning"
)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def randomized(model, size=0.3):
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = size * generator.standard_normal(variable.shape)
        variable.assign(array(variable) + noise.astype("float32"))
    return model


def outputs(model, x):
    return array(model(x, training=False))


def test_bottleneck_is_the_formula():
    layer = keras.layers.Dense(4, activation="tanh")
    layer.build((2, 5))
    generator = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(generator.normal(size=variable.shape))
    x = generator.normal(size=(2, 3, 5)).astype("float32")
    start = array(layer(x))
    kernel, bias = map(array, layer.weights)
    adapter = kd.adapters.Houlsby(3, activation="relu")
    adapter.attach(layer, adapter.prepare("layer", layer))
    np.testing.assert_array_equal(array(layer(x)), start)
    values = {}
    for name, variable in adapter.state(layer).items():
        values[name] = generator.normal(size=variable.shape)
        variable.assign(values[name])
    h = x @ kernel + bias
    inner = h @ values["bottleneck_down"] + values["bottleneck_down_bias"]
    h = h + np.maximum(inner, 0) @ values["bottleneck_up"]
    expected = np.tanh(h + values["bottleneck_up_bias"])
    np.testing.assert_allclose(array(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", part(ADAPTERS))
def test_edge_shares_one_pass(kind):
    architecture = TABLE["bert"]
    x, y = architecture.data(seed=0)
    trained = []
    for shares in (True, False):
        model = architecture.build()
        kd.adapters.apply(model, ADAPTERS[kind]())
        for layer in adapted_layers(model).values():
            for name, variable in layer.adapter_state().items():
                # The same start for both.
                noise = np.random.default_rng(len(name)).normal(
                    size=variable.shape
                )
                variable.assign(array(variable) + 0.1 * noise)
        debiased = kd.DebiasedModel(model, kd.projections.EDGE(), seed=0)
        loss = architecture.loss()
        if not shares:
            # The same values from a loss that is not known to Keras.
            def loss(y_true, y_pred):
                return keras.losses.sparse_categorical_crossentropy(
                    y_true, y_pred, from_logits=True
                )

        debiased.compile(keras.optimizers.SGD(0.1), loss=loss)
        debiased.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        if shares:
            assert debiased.separate_passes is None
        else:
            assert debiased.separate_passes is not None
        trained.append(outputs(model, x))
    np.testing.assert_allclose(*trained, atol=2e-5)


@pytest.mark.once
def test_ia3_of_a_quantized_base_is_kept_beside_it(tmp_path):
    architecture = TABLE["llama"]
    x, _ = architecture.data(seed=0)

    def build():
        model = architecture.build()
        model.backbone.quantize("int8")
        return model

    model = build()
    start = outputs(model, x)
    kd.adapters.apply(model, kd.adapters.IA3())
    np.testing.assert_allclose(outputs(model, x), start, atol=1e-6)
    expected = outputs(randomized(model), x)
    assert np.abs(expected - start).max() > 0.01
    with pytest.raises(ValueError, match="Keep the adapter"):
        kd.adapters.merge(model)
    kd.adapters.save(model, tmp_path / "adapter")
    again = kd.adapters.load(build(), tmp_path / "adapter")
    np.testing.assert_allclose(outputs(again, x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", part(ADAPTERS))
def test_generates_and_keeps_its_weights_in_keras_files(kind, tmp_path):
    model = TABLE["llama"].build()
    model.compile(sampler="greedy")
    prompt = {
        "token_ids": np.array([[5, 9, 3, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0, 0]], "int32"),
    }

    def generate(model):
        found = model.generate(prompt, stop_token_ids=None)
        return np.array(found["token_ids"]).tolist()

    base = generate(model)
    kd.adapters.apply(model, ADAPTERS[kind]())
    assert generate(model) == base
    randomized(model, 3.0)
    adapted = generate(model)
    assert adapted != base
    with kd.adapters.disabled(model):
        assert generate(model) == base
    # Step by step, without a cache.
    ids = np.array(prompt["token_ids"])
    for place in range(3, 6):
        mask = (np.arange(6) < place)[None].astype("int32")
        given = {"token_ids": ids, "padding_mask": mask}
        ids[0, place] = outputs(model, given)[0, place - 1].argmax()
    assert ids.tolist() == adapted

    x, _ = TABLE["llama"].data(seed=0)
    expected = outputs(model, x)
    kd.DebiasedModel(model).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").model
    np.testing.assert_allclose(outputs(again, x), expected, atol=1e-6)
    if kind != "IA3":
        with pytest.raises(ValueError, match="which no kernel can take over"):
            model.save_weights(tmp_path / "bare.weights.h5")
        return
    model.save_weights(tmp_path / "bare.weights.h5")
    plain = TABLE["llama"].build(seed=1)
    plain.load_weights(tmp_path / "bare.weights.h5")
    np.testing.assert_allclose(outputs(plain, x), expected, atol=1e-5)


def test_half_precision_keeps_small_scales():
    layer = keras.layers.Dense(64, dtype="mixed_bfloat16", use_bias=False)
    layer.build((None, 64))
    adapter = kd.adapters.IA3(targets="dense", feedforward=())
    adapter.attach(layer, None)
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    start = array(ops.cast(layer(x), "float32"))
    layer.ia3_scale.assign(np.full(64, 1.003, "float32"))
    found = array(ops.cast(layer(x), "float32"))
    # Of numbers with eight bits, some move by one in the last place.
    assert (found != start).mean() > 0.5


def test_refusals():
    architecture = TABLE["bert"]
    x, y = architecture.data(seed=0)
    model = architecture.build()
    before = outputs(model, x)
    key = "transformer_layer_0/self_attention_layer/key"
    with pytest.raises(ValueError, match="in both"):
        kd.adapters.apply(model, kd.adapters.IA3("key", "key"))
    with pytest.raises(ValueError, match="same weights"):
        kd.adapters.apply(
            model, [kd.adapters.IA3(), kd.adapters.LoRA(2, targets=key)]
        )
    with pytest.raises(ValueError, match="has these layers"):
        kd.adapters.apply(model, kd.adapters.IA3(feedforward="nothing"))
    with pytest.raises(ValueError, match="layers that train whole"):
        kd.adapters.apply(model, kd.adapters.IA3("logits"))
    sequential = TABLE["sequential"].build()
    with pytest.raises(ValueError, match="transformer blocks"):
        kd.adapters.apply(
            sequential, kd.adapters.Pfeiffer(), also_train="logits"
        )
    attention = ("*/query", "*/value")
    with pytest.raises(ValueError, match="vectors on the last axis"):
        kd.adapters.apply(model, kd.adapters.Houlsby(targets=attention))
    np.testing.assert_array_equal(outputs(model, x), before)

    kd.adapters.apply(model, kd.adapters.IA3(feedforward=()))
    for other in (
        kd.adapters.LoRA(2),
        kd.adapters.ValueBias(),
        kd.adapters.IA3(),
    ):
        with pytest.raises(ValueError, match="takes another|without adapters"):
            kd.adapters.apply(model, other)
    directions = kd.Directions(np.eye(8)[:, :1], "read")
    with pytest.raises(ValueError, match="kept from directions"):
        kd.DebiasedModel(
            model, projection=kd.projections.Subspace(directions)
        ).compile(loss=architecture.loss())
