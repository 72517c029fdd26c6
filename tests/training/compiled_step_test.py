"""`compile(jit_compile=True)`: the same steps, in less time."""

import shutil

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias import _keras_internals
from tests.architectures import ARCHITECTURES
from tests.training.step_test import CLASSES
from tests.training.step_test import WIDTH
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}
BACKEND = keras.config.backend()
# `torch.compile` imports what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method`:DeprecationWarning"
)
# On tensorflow and jax it is XLA that compiles, and Keras that asks it to.
of_torch = pytest.mark.skipif(BACKEND != "torch", reason="No graph of ours.")

PARTS = {
    "plain": lambda regularizers: {},
    "EDGE": lambda regularizers: {"projection": kd.projections.EDGE(alpha=1.0)},
    "refresh": lambda regularizers: {
        "projection": kd.projections.EDGE(1.0, scope="global", refresh=2),
        "regularizers": regularizers,
    },
    "BA-LoRA": lambda regularizers: {"regularizers": regularizers},
    "both": lambda regularizers: {
        "projection": kd.projections.EDGE(alpha=1.0),
        "regularizers": regularizers,
    },
}


@pytest.fixture
def graphs(monkeypatch):
    """Calls of compiled graphs; made without writing machine code."""
    found = []
    from keras_debias.training import torch_compiled_call
    from keras_debias.training import torch_compiled_network

    call = torch_compiled_call.CompiledCall.__call__

    def counted(self, x, *rest):
        found.append(self)
        return call(self, x, *rest)

    monkeypatch.setattr(torch_compiled_call.CompiledCall, "__call__", counted)
    monkeypatch.setattr(
        torch_compiled_network.CompiledNetwork, "compiler", "aot_eager"
    )
    return found


def trained(build, parts, x, y, jit_compile, epochs=2, batch_size=4):
    """The weights after a few steps, and the model."""
    keras.utils.set_random_seed(0)
    model = kd.DebiasedModel(build(), seed=0, **parts())
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=jit_compile
    )
    model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    )
    return [np.array(w) for w in model.model.get_weights()], model


def check(build, parts, x, y, tolerance=1e-5, **kwargs):
    """Compiled steps against those that are not."""
    start = [np.array(w) for w in build().get_weights()]
    expected, _ = trained(build, parts, x, y, False, **kwargs)
    found, model = trained(build, parts, x, y, True, **kwargs)
    assert model.jit_compile
    moved = max(np.abs(a - b).max() for a, b in zip(start, expected))
    assert moved > 1e-4
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def adapted(name, **kwargs):
    model = TABLE[name].build(**kwargs)
    kd.adapters.apply(model, kd.adapters.PiSSA(rank=2))
    return model


@of_torch
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_compiled_step_is_the_same(name, parts, graphs):
    """With one backward pass for both objectives, and with several."""
    x, y = TABLE[name].data(seed=0)
    generation = name == "gpt2"

    def create():
        options = {"steps": 6} if generation else {"k": 2}
        terms = kd.regularizers.ba_lora(generation, **options)
        return PARTS[parts](terms)

    check(lambda: adapted(name), create, x, y)
    with_teacher = parts in ("refresh", "BA-LoRA", "both")
    # The network, the teacher: each was traced once.
    assert len({id(graph) for graph in graphs}) == 1 + with_teacher
    assert len(graphs) == 2 * len(y) // 4 * (1 + with_teacher)


@of_torch
def test_moving_statistics_are_written(graphs):
    x, y = TABLE["resnet"].data(seed=0)
    check(TABLE["resnet"].build, lambda: {}, x, y, tolerance=1e-4)


@pytest.mark.skipif(
    BACKEND == "torch" and not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch writes C++, and nothing here compiles it.",
)
def test_machine_code_gives_the_same_step():
    x, y = TABLE["bert"].data(seed=0)

    def create():
        return PARTS["both"](kd.regularizers.ba_lora(k=2))

    check(lambda: adapted("bert"), create, x, y)


@of_torch
def test_batches_of_other_shapes_run_as_they_are(graphs):
    x, y = rows()
    parts = PARTS["EDGE"]
    for batch_size in (5, 12):
        expected, _ = trained(
            network, lambda: parts(None), x, y, False, batch_size=batch_size
        )
        graphs.clear()
        found, _ = trained(
            network, lambda: parts(None), x, y, True, batch_size=batch_size
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert len(graphs) == 2 * (len(y) // batch_size)


@of_torch
def test_what_trains_may_change_between_fits(graphs):
    x, y = TABLE["bert"].data(seed=0)

    def run(jit_compile):
        keras.utils.set_random_seed(0)
        task = TABLE["bert"].build()
        model = kd.DebiasedModel(task, kd.projections.EDGE(), seed=0)
        for adapter in (None, kd.adapters.LoRA(rank=2)):
            if adapter is not None:
                kd.adapters.apply(task, adapter)
            model.compile(
                keras.optimizers.SGD(0.1),
                loss=logits_loss(),
                jit_compile=jit_compile,
            )
            model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        return [np.array(w) for w in task.get_weights()]

    for a, b in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert len({id(graph) for graph in graphs}) == 2


@of_torch
def test_dropout_is_drawn_anew_in_each_step_and_again_in_each_run(graphs):
    x, y = TABLE["bert"].data(seed=0)

    def run(dropout, jit_compile=True):
        found, _ = trained(
            lambda: adapted("bert", dropout=dropout),
            lambda: PARTS["EDGE"](None),
            x,
            y,
            jit_compile,
        )
        return np.concatenate([w.ravel() for w in found])

    first, second = run(0.3), run(0.3)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - run(0.0)).max() > 1e-4


@of_torch
def test_a_callback_may_ask_for_another_objective(graphs):
    x, y = TABLE["bert"].data(seed=0)
    logs = []
    for jit_compile in (False, True):
        _, model = trained(
            lambda: adapted("bert"), dict, x, y, jit_compile, epochs=1
        )
        history = model.fit(
            x,
            y,
            batch_size=4,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[kd.callbacks.GradientCosine()],
        ).history
        assert model.separate_passes is None
        logs.append([history["gradient_cosine"], history["loss"]])
    np.testing.assert_allclose(*logs, atol=1e-5)
    assert len({id(graph) for graph in graphs}) == 2


class Decides(keras.layers.Layer):
    """Python that asks for the value of a tensor."""

    def call(self, x):
        total = float(ops.stop_gradient(ops.sum(x)))
        return x if total > 0 else 2.0 * x


class OwnGradient(keras.layers.Layer):
    """A gradient that is not that of the operations."""

    def call(self, x):
        @ops.custom_gradient
        def doubled(x):
            def grad(*arguments, upstream=None):
                upstream = arguments[0] if upstream is None else upstream
                return 3.0 * upstream

            return 2.0 * x, grad

        return doubled(x)


def with_layer(layer):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        hidden = keras.layers.Dense(7)(inputs)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(layer()(hidden)))

    return build


@of_torch
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Decides, "asks for the value of a tensor"),
        (OwnGradient, "defines a gradient of its own"),
        (
            lambda: keras.layers.Dropout(0.5, seed=1),
            "asks for the value of a tensor",
        ),
        (
            lambda: keras.layers.ActivityRegularization(l2=1.0),
            "without losses of activations",
        ),
    ],
    ids=["python", "gradient", "seeded dropout", "activity loss"],
)
def test_what_a_graph_cannot_hold_is_refused(layer, message):
    x, y = rows()
    build = with_layer(layer)
    if layer is not OwnGradient:
        trained(build, lambda: {}, x, y, False)
    model = kd.DebiasedModel(build(), seed=0)
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=True
    )
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@of_torch
def test_rematerialized_layers_are_refused():
    x, y = rows()
    with keras.RematScope(mode="full"):
        model = kd.DebiasedModel(with_layer(lambda: keras.layers.Dense(7))())
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=True
    )
    with pytest.raises(ValueError, match="Expected no `RematScope`"):
        model.fit(x, y, verbose=0)


@of_torch
def test_a_carried_mask_reaches_the_loss(graphs):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,), dtype="int32")
        hidden = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    generator = np.random.default_rng(0)
    x = generator.integers(1, 9, (8, 6)).astype("int32")
    x[:, 4:] = 0
    y = generator.integers(0, 3, (8, 6)).astype("int32")
    assert _keras_internals.get_keras_mask(build()(x)) is not None
    check(build, lambda: {}, x, y)


@of_torch
def test_minilm(graphs):
    import keras_hub

    def build():
        keras.utils.set_random_seed(0)
        model = keras_hub.models.TextClassifier.from_preset(
            kd.presets.minilm(), num_classes=3, preprocessor=None
        )
        for layer in _keras_internals.flatten_layers(model):
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        kd.adapters.apply(model, kd.adapters.LoRA(rank=4))
        return model

    generator = np.random.default_rng(0)
    tokens = generator.integers(1000, 3000, (8, 12)).astype("int32")
    x = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    y = generator.integers(0, 3, 8).astype("int32")
    check(build, lambda: PARTS["EDGE"](None), x, y, epochs=1)
    assert len(graphs) == 2
