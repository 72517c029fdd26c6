"""Layers that are made with their adapter, in models of one's own."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.linalg import kernel_view

DENSE = {
    "lora": kd.layers.LoRADense,
    "pissa": kd.layers.PiSSADense,
    "dora": kd.layers.DoRADense,
}
EINSUM = {
    "lora": kd.layers.LoRAEinsumDense,
    "pissa": kd.layers.PiSSAEinsumDense,
    "dora": kd.layers.DoRAEinsumDense,
}
KINDS = list(DENSE)
WIDTH = 6


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 5, WIDTH)).astype("float32")
    return x, np.arange(8) % 3


def pretrained(layer, shape=(None, 5, WIDTH), seed=1):
    generator = np.random.default_rng(seed)
    layer.build(shape)
    for variable in layer.weights:
        variable.assign(generator.normal(size=variable.shape, scale=0.5))
    return layer


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable(package="keras_debias_tests")
class Attention(keras.layers.Layer):
    """One head, built by its own call: Keras traces it first."""

    def __init__(self, kind, fresh=True, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.fresh = fresh
        settings = {"rank": 2, "train_kernel": fresh}
        self.query = DENSE[kind](WIDTH, name="query", **settings)
        self.key = keras.layers.Dense(WIDTH, name="key")
        self.value = keras.layers.Dense(WIDTH, use_bias=False, name="value")
        self.value_bias = kd.layers.ValueBias(name="added")

    def call(self, x):
        values = self.value_bias(self.value(x))
        scores = self.query(x) @ ops.transpose(self.key(x), (0, 2, 1))
        return ops.softmax(scores) @ values

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "fresh": self.fresh}


@keras.saving.register_keras_serializable(package="keras_debias_tests")
class Subclassed(keras.Model):
    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.attention = Attention(kind, name="attention")
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x):
        return self.head(self.pool(self.attention(x)))

    def get_config(self):
        return {"kind": self.kind, "name": self.name}


def sequential(kind):
    dense = pretrained(keras.layers.Dense(WIDTH, "tanh", name="first"))
    return keras.Sequential(
        [
            keras.Input((5, WIDTH)),
            DENSE[kind].from_layer(dense, rank=2, train_bias=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def functional(kind):
    einsum = keras.layers.EinsumDense(
        "abc,cde->abde", (None, 2, 3), bias_axes="de", name="query"
    )
    inputs = keras.Input((5, WIDTH))
    x = kd.layers.Refine(name="refine")(inputs)
    x = EINSUM[kind].from_layer(pretrained(einsum), rank=2)(x)
    x = keras.layers.Reshape((5, WIDTH))(x)
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def subclassed(kind):
    model = Subclassed(kind)
    model(data()[0])
    return model


MODELS = {
    "sequential": sequential,
    "functional": functional,
    "subclassed": subclassed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_from_layer_keeps_outputs_and_freezes_the_kernel(kind):
    x, _ = data()
    einsum = keras.layers.EinsumDense(
        "btd,ndh->btnh", (None, 2, 3), bias_axes="nh", activation="tanh"
    )
    for plain, cls in (
        (keras.layers.Dense(4, "relu"), DENSE[kind]),
        (einsum, EINSUM[kind]),
    ):
        plain = pretrained(plain)
        plain.trainable = False
        layer = cls.from_layer(plain, rank=2, alpha=6)
        np.testing.assert_allclose(array(layer(x)), array(plain(x)), atol=1e-6)
        names = {v.name for v in layer.trainable_variables}
        more = {"lora_magnitude"} if kind == "dora" else set()
        assert names == {"lora_a", "lora_b"} | more
        assert layer.name == plain.name
        view = kernel_view(plain)
        matrix = array(view.to_matrix(plain.kernel))
        if kind == "pissa":
            u, s, vt = np.linalg.svd(matrix)
            np.testing.assert_allclose(
                3 * array(layer.lora_a) @ array(layer.lora_b),
                (u[:, :2] * s[:2]) @ vt[:2],
                atol=1e-5,
            )
        if kind == "dora":
            np.testing.assert_allclose(
                array(layer.lora_magnitude),
                np.linalg.norm(matrix, axis=0),
                rtol=1e-5,
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_layer_trains_whole(kind):
    """Built while Keras traces a model: its start comes from its kernel."""
    x, y = data()
    model = subclassed(kind)
    query = model.attention.query
    if kind == "pissa":
        u, s, vt = np.linalg.svd(array(query.kernel))
        np.testing.assert_allclose(
            array(query.lora_a) @ array(query.lora_b),
            (u[:, :2] * s[:2]) @ vt[:2],
            atol=1e-5,
        )
    if kind == "dora":
        np.testing.assert_allclose(
            array(query.lora_magnitude),
            np.linalg.norm(array(query.kernel), axis=0),
            rtol=1e-5,
        )
    start = array(query(x))
    np.testing.assert_allclose(
        start, x @ array(query.kernel) + array(query.bias), atol=1e-5
    )
    before = {v.path: array(v) for v in model.trainable_variables}
    assert {"kernel", "bias", "lora_a"} <= {
        v.name for v in query.trainable_variables
    }
    model.compile(keras.optimizers.SGD(1.0), logits_loss())
    model.fit(x, y, epochs=2, verbose=0)
    still = [
        path
        for path, value in before.items()
        if np.array_equal(
            value, array({v.path: v for v in model.weights}[path])
        )
    ]
    # Softmax takes no notice of a key bias.
    assert [p for p in still if not p.endswith("key/bias")] == []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tool_works_on_models_of_them(kind, name, tmp_path):
    if keras.config.backend() != "torch" and (kind, name) not in (
        ("lora", "functional"),
        ("pissa", "subclassed"),
        ("dora", "sequential"),
    ):
        pytest.skip("the same code in other company")
    x, y = data()
    model = MODELS[name](kind)
    start = array(model(x))
    base = {v.path: array(v) for v in model.weights}
    debiased = kd.DebiasedModel(
        model, regularizers=[kd.regularizers.Consistency(weight=0.5)], seed=0
    )
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=2, verbose=0)
    trained = array(model(x))
    assert np.abs(trained - start).max() > 1e-2

    # The teacher: adapters off, whatever else trains as it is now.
    with kd.adapters.disabled(model):
        off = array(model(x))
    now = {v.path: array(v) for v in model.weights}
    for layer in adapted_layers(model).values():
        if getattr(layer, "train_kernel", False):
            layer.reset_updates()
            continue
        for adapter in layer.adapters:
            for variable in adapter.state(layer).values():
                variable.assign(base[variable.path])
    np.testing.assert_allclose(off, array(model(x)), atol=1e-5)
    for variable in model.weights:
        variable.assign(now[variable.path])
    (teacher,) = debiased.regularization.teacher_outputs(
        ops.convert_to_tensor(x)
    ).values()
    np.testing.assert_allclose(array(teacher), off, atol=1e-5)

    rows = kd.adapters.summary(model).rows
    assert any("lora_a" in path for path, _, _ in rows)
    assert not any("gate" in path for path, _, _ in rows)

    # Files: the adapters alone, the model, and the model in its wrapper.
    kd.adapters.save(model, tmp_path / "adapter")
    again = MODELS[name](kind)
    for other, own in zip(again.weights, model.weights, strict=True):
        # What trains beside the adapters is of the base in this test.
        if other.path.split("/")[-2] not in ("query", "first"):
            other.assign(own)
    kd.adapters.load(again, tmp_path / "adapter")
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    assert again.trainable_variables == []
    for saved in (model, debiased):
        saved.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
        inner = getattr(again, "model", again)
        with kd.adapters.disabled(inner):
            np.testing.assert_allclose(array(inner(x)), off, atol=1e-5)

    kd.adapters.merge(model)
    np.testing.assert_allclose(array(model(x)), trained, atol=1e-5)
    kinds = {type(layer) for layer in model._flatten_layers()}
    assert not kinds & {*DENSE.values(), *EINSUM.values()}
    with pytest.raises(ValueError, match="has none"):
        kd.adapters.merge(model)
    if name != "subclassed":
        model.save(tmp_path / "merged.keras")
        again = keras.models.load_model(tmp_path / "merged.keras")
        np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
        with pytest.raises(ValueError, match="has none"):
            kd.adapters.merge(again)


def test_adapters_are_applied_beside_them(tmp_path):
    """To the attention of Keras, whose layers are built by itself."""
    x, y = data()
    model = functional("lora")
    start = array(model(x))
    adapters = [
        kd.adapters.LoRA(rank=2, targets="attention/query"),
        kd.adapters.ValueBias(targets="attention/value"),
    ]
    kd.adapters.apply(model, adapters, also_train="head")
    np.testing.assert_allclose(array(model(x)), start, atol=1e-5)
    trains = {p for p, _, _ in kd.adapters.summary(model).rows}
    assert trains == {
        *("refine/refine", "query/lora_a", "query/lora_b"),
        *("attention/query/lora_a", "attention/query/lora_b"),
        *("attention/value/bias", "head/kernel", "head/bias"),
    }
    debiased = kd.DebiasedModel(model, projection=kd.projections.EDGE())
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=2, verbose=0)
    trained = array(model(x))
    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    kd.adapters.save(model, tmp_path / "adapter")
    # Keras made the attention anew: the same start for it.
    base = functional("lora")
    with kd.adapters.disabled(model):
        for layer in ("query", "key", "value", "output"):
            source = getattr(model.get_layer("attention"), f"_{layer}_dense")
            target = getattr(base.get_layer("attention"), f"_{layer}_dense")
            target.kernel.assign(array(source.kernel))
            target.bias.assign(array(source.bias))
    kd.adapters.load(base, tmp_path / "adapter")
    np.testing.assert_allclose(array(base(x)), trained, atol=1e-5)
    kd.adapters.merge(model)
    np.testing.assert_allclose(array(model(x)), trained, atol=1e-5)


def test_all_linear_layers_are_those_without_an_adapter():
    model = functional("lora")
    lora = kd.adapters.LoRA(rank=1, targets=kd.adapters.ALL_LINEAR)
    kd.adapters.apply(model, lora, also_train="head")
    trains = {p for p, _, _ in kd.adapters.summary(model).rows}
    names = ("query", "key", "value", "attention_output")
    factors = [f"attention/{name}/lora_{x}" for name in names for x in "ab"]
    assert trains == {
        *("refine/refine", "query/lora_a", "query/lora_b"),
        *("head/kernel", "head/bias", *factors),
    }


def test_a_bias_update_joins_one_of_them(tmp_path):
    x, y = data()
    model = sequential("pissa")
    bias = kd.adapters.ValueBias(kd.adapters.LoRABias(rank=2), "first")
    with pytest.raises(ValueError, match="bias does not train yet"):
        kd.adapters.apply(model, bias, also_train="head")
    dense = pretrained(keras.layers.Dense(WIDTH, "tanh", name="first"))
    model = keras.Sequential(
        [
            keras.Input((5, WIDTH)),
            kd.layers.PiSSADense.from_layer(dense, rank=2),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, name="head"),
        ]
    )
    kd.adapters.apply(model, bias, also_train="head")
    debiased = kd.DebiasedModel(model)
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=2, verbose=0)
    trained = array(model(x))
    debiased.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    kd.adapters.merge(again)
    np.testing.assert_allclose(array(again.model(x)), trained, atol=1e-5)
    assert type(again.model.layers[0]) is keras.layers.Dense


@pytest.mark.parametrize("kind", KINDS)
def test_updates_stay_out_of_directions(kind):
    x, y = data()
    model = sequential(kind)
    vector = np.eye(WIDTH, 1, dtype="float32")
    directions = kd.Directions(vector, "read", readers=("first",))
    debiased = kd.DebiasedModel(
        model, projection=kd.projections.Subspace(directions)
    )
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=3, verbose=0)
    change = array(model.layers[0].delta())
    assert np.abs(change).max() > 1e-2
    assert np.abs(change[0]).max() < 1e-5


def test_a_kernel_that_trains_stays_out_of_directions():
    x, y = data()
    model = keras.Sequential(
        [
            keras.Input((5, WIDTH)),
            kd.layers.LoRADense(WIDTH, rank=2, name="first"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, name="head"),
        ]
    )
    layer = model.layers[0]
    before = array(layer.merged_kernel())
    vector = np.eye(WIDTH, 1, dtype="float32")
    directions = kd.Directions(vector, "read", readers=("first",))
    debiased = kd.DebiasedModel(
        model, projection=kd.projections.Subspace(directions)
    )
    debiased.compile(keras.optimizers.Adam(0.05), logits_loss())
    debiased.fit(x, y, epochs=3, verbose=0)
    change = array(layer.merged_kernel()) - before
    assert np.abs(change).max() > 1e-2
    assert np.abs(change[0]).max() < 1e-5
    assert np.abs(array(layer.lora_b)).max() > 0


def test_half_precision_keeps_updates_in_float32():
    x, y = data()
    dense = pretrained(keras.layers.Dense(WIDTH, dtype="mixed_bfloat16"))
    layer = kd.layers.PiSSADense.from_layer(dense, rank=2)
    assert layer.compute_dtype == "bfloat16"
    assert {v.dtype for v in layer.weights} == {"float32"}
    np.testing.assert_array_equal(
        array(ops.cast(layer(x), "float32")),
        array(ops.cast(dense(x), "float32")),
    )


def test_weights_of_a_plain_layer_are_a_new_start():
    x, _ = data()
    plain = pretrained(keras.layers.Dense(4))
    layer = kd.layers.PiSSADense(4, rank=2, train_kernel=False)
    layer.build(x.shape)
    store = {}
    plain.save_own_variables(store)
    layer.load_own_variables(store)
    np.testing.assert_allclose(array(layer(x)), array(plain(x)), atol=1e-6)
    u, s, vt = np.linalg.svd(array(plain.kernel))
    np.testing.assert_allclose(
        array(layer.lora_a) @ array(layer.lora_b),
        (u[:, :2] * s[:2]) @ vt[:2],
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: keras.layers.Dense(4), "not built"),
        (lambda: pretrained(kd.layers.LoRADense(4, rank=2)), "built `Dense`"),
        (lambda: "dense", "built `Dense`"),
        (
            lambda: pretrained(keras.layers.Dense(4, lora_rank=2)),
            "changed by Keras",
        ),
        (lambda: pretrained(keras.layers.Dense(1)), "at most 1"),
    ],
)
def test_what_from_layer_refuses(make, match):
    with pytest.raises(ValueError, match=match):
        kd.layers.LoRADense.from_layer(make(), rank=2)


def test_vectors_share_a_backward_pass():
    x, y = data()

    def trained(shared):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, WIDTH))
        h = kd.layers.Refine()(inputs)
        h = keras.layers.Dense(WIDTH, "tanh")(h)
        h = keras.layers.Reshape((5, 2, 3))(h)
        h = kd.layers.ValueBias(num_axes=2)(h)
        h = keras.layers.Flatten()(h)
        model = keras.Model(inputs, keras.layers.Dense(3)(h))
        debiased = kd.DebiasedModel(model, kd.projections.EDGE())
        debiased.compile(keras.optimizers.SGD(0.1), logits_loss())
        assert debiased.separate_passes is None
        if not shared:
            debiased._planned = debiased._planned[0], "for this test"
        debiased.fit(x, y, epochs=3, verbose=0, shuffle=False)
        return [array(v) for v in model.weights]

    for one, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="the tests above run everywhere"
)
# KerasHub's own layers of T5 warn of lost masks.
@pytest.mark.filterwarnings("ignore:Layer .*mask:UserWarning")
# torch, of its exporters to ONNX.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_the_page_runs(tmp_path, monkeypatch):
    page = pathlib.Path(__file__).parents[2] / "docs" / "own_models.md"
    monkeypatch.chdir(tmp_path)
    scope = {}
    for code in re.findall(
        r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    ):
        exec(compile(code, page.name, "exec"), scope)
    # Embedding, four layers of 16 x 16 of Keras' attention and three more,
    # one of them without a bias, the head, and two vectors with their gates.
    expected = 1_600 + 7 * 256 + 6 * 16 + 34 + 2 * 17
    assert scope["plain"].count_params() == expected
    # T5: the encoder alone, factors on two projections of each block.
    assert scope["scores"]["train"].n == 32
    paths = [v.path for v in scope["classifier"].variables]
    assert not any("decoder" in path for path in paths)
    assert sum("lora_a" in path for path in paths) == 4
