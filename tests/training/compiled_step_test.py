"""`compile(jit_compile=True)`: the same steps, in less time."""

import shutil

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias import _keras_internals
from tests.architectures import ARCHITECTURES
from tests.real_models import minilm
from tests.training.step_test import CLASSES
from tests.training.step_test import WIDTH
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}
BACKEND = keras.config.backend()
# `torch.compile` imports what torch itself has deprecated.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script_method`:DeprecationWarning"
    ),
    # What Keras says of every stream whose end it could not foresee.
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]
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

    run = torch_compiled_call.CompiledCall.run

    def counted(self, x, *rest):
        found.append(self)
        return run(self, x, *rest)

    monkeypatch.setattr(torch_compiled_call.CompiledCall, "run", counted)
    monkeypatch.setattr(
        torch_compiled_network.CompiledNetwork, "compiler", "eager"
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
    kd.adapters.apply(
        model, kd.adapters.PiSSA(rank=2), also_train=TABLE[name].also_train
    )
    return model


@pytest.fixture
def in_parts(monkeypatch):
    """No graph holds a whole step: the passes are compiled one by one."""
    from keras_debias.training import torch_compiled_step

    def refused(self, data):
        raise ValueError("Expected nothing. Received: a test. Leave it.")

    monkeypatch.setattr(torch_compiled_step.StepGraph, "__call__", refused)


@of_torch
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_compiled_step_is_the_same(name, parts, graphs):
    """With one backward pass for both objectives, and with several."""
    x, y = TABLE[name].data(seed=0)
    check(lambda: adapted(name), lambda: parts_for(name, parts), x, y)
    # One a step; with a cached ratio there are steps of two kinds.
    assert len(graphs) == 2 * len(y) // 4
    assert len({id(graph) for graph in graphs}) == 1 + (parts == "refresh")


@of_torch
@pytest.mark.parametrize("parts", ["EDGE", "both"])
@pytest.mark.parametrize("together", [True, False])
def test_gradients_of_token_losses_go_back_together(
    together, parts, graphs, monkeypatch
):
    """Unless there are so many logits that memory matters more."""
    import torch

    from keras_debias.training import torch_compiled_step

    if not together:
        monkeypatch.setattr(torch_compiled_step, "MOST_LOGITS", 0)
    batched = []
    grad = torch.autograd.grad

    def watched(*args, **kwargs):
        if kwargs.get("is_grads_batched"):
            batched.append(len(args[2]))
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    x, y = TABLE["gpt2"].data(seed=0)
    check(lambda: adapted("gpt2"), lambda: parts_for("gpt2", parts), x, y)
    # Of the loss, EDGE's objective and the regularizers, while recorded.
    count = 2 if parts == "EDGE" else 3
    assert set(batched) == ({count} if together else set())


@of_torch
@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize(
    ("name", "parts"),
    [("bert", "EDGE"), ("bert", "both"), ("gpt2", "refresh")],
)
def test_a_step_compiled_in_parts_is_the_same(name, parts, graphs, capsys):
    x, y = TABLE[name].data(seed=0)
    check(lambda: adapted(name), lambda: parts_for(name, parts), x, y)
    said = capsys.readouterr().out
    assert (
        said.count("only the forward pass is compiled. Received: a test") == 1
    )
    with_teacher = parts in ("refresh", "BA-LoRA", "both")
    # The network, the teacher: each was traced once.
    assert len({id(graph) for graph in graphs}) == 1 + with_teacher
    assert len(graphs) == 2 * len(y) // 4 * (1 + with_teacher)


def parts_for(name, parts):
    generation = name == "gpt2"
    options = {"steps": 6} if generation else {"k": 2}
    return PARTS[parts](kd.regularizers.ba_lora(generation, **options))


OBJECTIVES = {
    "GroupDRO": lambda: kd.losses.GroupDRO(num_groups=2),
    "LearnedMixin": lambda: kd.losses.LearnedMixin(bias_table()),
    "ProductOfExperts": lambda: kd.losses.ProductOfExperts(bias_table()),
    "GradientAlignment": lambda: kd.losses.GradientAlignment([1]),
    "RelativeDifficulty": lambda: kd.losses.RelativeDifficulty(
        np.arange(12) + 1.0
    ),
}


def bias_table():
    table = np.random.default_rng(0).random((12, CLASSES)) + 0.1
    return table / table.sum(-1, keepdims=True)


@of_torch
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_and_their_state_are_in_the_graph(name, graphs):
    x, y = rows()
    split = kd.data.Split(x, y, groups=np.arange(12) % 2)
    found = []
    for jit_compile in (False, True):
        model = kd.DebiasedModel(
            network(), objective=OBJECTIVES[name](), seed=0
        )
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=logits_loss(),
            metrics=["accuracy"],
            jit_compile=jit_compile,
        )
        history = model.fit(split, batch_size=4, epochs=3, verbose=0).history
        found.append(([np.array(w) for w in model.get_weights()], history))
    (expected, logs), (weights, compiled_logs) = found
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for key, values in logs.items():
        np.testing.assert_allclose(compiled_logs[key], values, rtol=1e-5)
    # Every step was one graph.
    assert len(graphs) == 9


@of_torch
def test_sensitivities_are_in_the_graph(graphs):
    x, y = TABLE["bert"].data(seed=0)
    scores = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        task = TABLE["bert"].build()
        kd.adapters.apply(task, kd.adapters.AdaLoRA(rank=2))
        model = ready(task, jit_compile)
        variables = model.trainable_variables
        sensitivity = model.track_sensitivity(variables, 0.5, 0.5)
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        scores.append(sensitivity.scores())
    assert len(graphs) == 2 and max(s.max() for s in scores[0]) > 0
    for a, b in zip(*scores, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9)


@of_torch
def test_a_refused_batch_changes_nothing(graphs):
    """Neither weights, nor moving means, nor seeds, nor sensitivities."""

    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        hidden = keras.layers.BatchNormalization()(inputs)
        hidden = keras.layers.Dropout(0.2, seed=1)(hidden)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))

    x, y = rows()
    model = ready(build(), projection=kd.projections.EDGE(alpha=1.0))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    sensitivity = model.track_sensitivity(model.trainable_variables, 0.5, 0.5)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)

    def state():
        return [
            *(np.array(ops.convert_to_numpy(v)) for v in model.model.variables),
            *(np.array(score) for score in sensitivity.scores()),
        ]

    before, count = state(), len(graphs)
    x[2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert len(graphs) == count + 1
    for a, b in zip(state(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@of_torch
def test_the_scale_of_a_float16_loss_is_followed(graphs):
    """It changes while training; a graph must not hold its first value."""
    x, y = rows()

    def run(jit_compile):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        dense = keras.layers.Dense(CLASSES, dtype="mixed_float16")
        model = kd.DebiasedModel(
            keras.Model(inputs, dense(inputs)), kd.projections.EDGE(), seed=0
        )
        model.compile(
            keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1),
                initial_scale=64.0,
                dynamic_growth_steps=2,
            ),
            loss=logits_loss(),
            jit_compile=jit_compile,
        )
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        scale = float(ops.convert_to_numpy(model.optimizer.dynamic_scale))
        return [np.array(w) for w in model.get_weights()], scale

    expected, scale = run(False)
    found, compiled_scale = run(True)
    assert graphs and scale == compiled_scale > 64.0
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


@of_torch
def test_moving_statistics_are_written(graphs):
    x, y = TABLE["resnet"].data(seed=0)
    check(TABLE["resnet"].build, lambda: {}, x, y, tolerance=1e-4)


needs_compiler = pytest.mark.skipif(
    BACKEND == "torch" and not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch writes C++, and nothing here compiles it.",
)


@pytest.mark.skipif(BACKEND == "jax", reason="jax compiles every step.")
@needs_compiler
def test_machine_code_gives_the_same_step():
    """On tensorflow of a few layers: XLA takes a minute for more."""
    name = "bert" if BACKEND == "torch" else "functional"
    x, y = TABLE[name].data(seed=0)

    def create():
        return PARTS["both"](kd.regularizers.ba_lora(k=2))

    check(lambda: adapted(name), create, x, y)


@of_torch
@needs_compiler
def test_machine_code_takes_inputs_of_other_strides():
    from keras_debias.training.torch_compiled_call import CompiledCall

    dense = keras.layers.Dense(3)
    dense.build((None, 5))
    call = CompiledCall(dense, dense.variables, differentiated=False)
    x = ops.convert_to_tensor(np.arange(20.0, dtype="float32").reshape(4, 5))
    expected = ops.convert_to_numpy(call(x))
    other = x.T.contiguous().T
    assert other.stride() != x.stride()
    np.testing.assert_array_equal(ops.convert_to_numpy(call(other)), expected)


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
def test_batches_of_numpy_share_the_graph_of_tensors(graphs):
    x, y = TABLE["bert"].data(seed=0)
    keras.utils.set_random_seed(0)
    model = kd.DebiasedModel(adapted("bert"), kd.projections.EDGE(), seed=0)
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=True
    )
    batch = keras.tree.map_structure(lambda array: array[:4], (x, y))
    model.train_on_batch(*batch)
    tensors = keras.tree.map_structure(ops.convert_to_tensor, batch)
    model.train_function([tensors])
    assert len(graphs) == 2
    assert len({id(graph) for graph in graphs}) == 1


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


class Asks(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        assert self.model.separate_passes is None


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
            callbacks=[kd.callbacks.GradientCosine(), Asks()],
        ).history
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
        (
            lambda: keras.layers.GaussianNoise(0.5, seed=1),
            "asks for the value of a tensor",
        ),
        (
            lambda: keras.layers.ActivityRegularization(l2=1.0),
            "without losses of activations",
        ),
    ],
    ids=["python", "seeded noise", "activity loss"],
)
def test_what_a_graph_cannot_hold_is_refused(layer, message):
    x, y = rows()
    build = with_layer(layer)
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
def test_a_gradient_of_its_own_is_in_the_graph_of_a_step(graphs):
    x, y = rows()
    build = with_layer(OwnGradient)
    check(build, lambda: {}, x, y, 1e-6)
    assert graphs


@of_torch
@pytest.mark.usefixtures("in_parts")
def test_a_forward_pass_alone_loses_a_gradient_of_its_own(graphs):
    x, y = rows()
    model = kd.DebiasedModel(with_layer(OwnGradient)(), seed=0)
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=True
    )
    before = [np.array(w) for w in model.get_weights()]
    with pytest.raises(ValueError, match="defines a gradient of its own"):
        model.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def batches_of(lengths):
    """Batches of tokens, and labels of their rows."""
    generator = np.random.default_rng(0)
    for length in lengths:
        tokens = generator.integers(1, 9, (4, length)).astype("int32")
        labels = generator.integers(0, CLASSES, 4).astype("int32")
        mask = np.ones_like(tokens)
        yield {"token_ids": tokens, "padding_mask": mask}, labels


class DecidesOnLong(keras.layers.Layer):
    """Asks for the value of a tensor, of more than six tokens."""

    def call(self, x):
        if x.shape[1] > 6 and bool(ops.sum(x) > 1e9):
            return 2 * x
        return x


@of_torch
def test_lengths_that_cannot_be_compiled_run_as_they_are(graphs, capsys):
    """After the first batch, a step is trained rather than refused."""

    def build():
        keras.utils.set_random_seed(0)
        names = ("token_ids", "padding_mask")
        inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
        hidden = keras.layers.Embedding(9, 4)(inputs["token_ids"])
        mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
        hidden = ops.sum(DecidesOnLong()(hidden * mask), axis=1)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))

    found = []
    for jit_compile in (False, True):
        model = ready(build(), jit_compile)
        model.fit(batches_of((6, 9, 9, 6)), verbose=0)
        found.append([np.array(w) for w in model.model.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    said = capsys.readouterr().out
    assert said.count("The training step is not compiled. Received") == 1
    # The step of 6 twice; the step and the forward pass of 9, each tried once.
    assert len(graphs) == 4
    assert len({id(graph) for graph in graphs}) == 3


@pytest.fixture
def accelerator(monkeypatch, graphs):
    """Weights that seem to be on an accelerator; returns the graphs."""
    from keras_debias.training import torch_debiased_model

    monkeypatch.setattr(torch_debiased_model, "on_accelerator", lambda _: True)
    return graphs


@of_torch
def test_on_an_accelerator_compiling_is_the_default(accelerator, capsys):
    x, y = rows()
    parts = PARTS["EDGE"]
    expected, _ = trained(network, lambda: parts(None), x, y, False)
    assert not accelerator
    found, model = trained(network, lambda: parts(None), x, y, "auto")
    assert len(accelerator) == 2 * 3
    assert capsys.readouterr().out.count("The training step is compiled") == 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # A file of it leaves the choice to where it is loaded.
    assert model.get_compile_config()["jit_compile"] == "auto"


@of_torch
def test_on_a_processor_it_is_not(graphs, capsys):
    x, y = rows()
    _, model = trained(network, lambda: {}, x, y, "auto")
    assert not graphs and not model.jit_compile
    assert "compiled" not in capsys.readouterr().out
    assert model.get_compile_config()["jit_compile"] == "auto"


@of_torch
def test_what_a_graph_cannot_hold_runs_as_it_is(accelerator, capsys):
    x, y = rows()
    build = with_layer(Decides)
    expected, _ = trained(build, lambda: {}, x, y, False)
    found, _ = trained(build, lambda: {}, x, y, "auto")
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    said = capsys.readouterr().out
    assert said.count("The training step is not compiled. Received") == 1
    assert "only the forward" not in said
    # The whole step and the forward pass, each tried once.
    assert len(accelerator) == 2


@of_torch
def test_a_compiler_that_is_missing_is_no_error(
    accelerator, monkeypatch, capsys
):
    from keras_debias.training.torch_compiled_network import CompiledNetwork

    def missing(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(CompiledNetwork, "compiler", staticmethod(missing))
    x, y = rows()
    build = with_layer(lambda: keras.layers.Dropout(0.5, seed=1))
    expected, _ = trained(build, lambda: {}, x, y, False)
    found, _ = trained(build, lambda: {}, x, y, "auto")
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert "not compiled" in capsys.readouterr().out
    with pytest.raises(ValueError, match="can compile here"):
        trained(build, lambda: {}, x, y, True)


class DropsTwice(keras.layers.Layer):
    """Two draws from one generator."""

    def __init__(self, seed):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training:
            return x
        x = keras.random.dropout(x, 0.3, seed=self.seeds)
        return keras.random.dropout(x, 0.3, seed=self.seeds)


@of_torch
@pytest.mark.parametrize("noise_shape", [None, (None, 1)])
def test_dropout_with_a_seed_is_that_of_eager_steps(noise_shape, graphs):
    """The same masks, and the same states of the seeds afterwards."""
    x, y = rows()

    def build():
        inputs = keras.Input((WIDTH,))
        hidden = keras.layers.Dense(7)(inputs)
        hidden = keras.layers.Dropout(0.5, noise_shape, seed=1)(hidden)
        hidden = DropsTwice(seed=2)(hidden)
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
        draws = np.random.default_rng(0)
        for variable in model.trainable_variables:
            variable.assign(0.5 * draws.standard_normal(variable.shape))
        return model

    parts = PARTS["EDGE"]
    check(build, lambda: parts(None), x, y, 1e-6)
    assert graphs
    states = []
    for jit_compile in (False, True):
        _, model = trained(build, lambda: {}, x, y, jit_compile)
        seeds = [v for v in model.model.variables if "seed" in v.path]
        states.append([ops.convert_to_numpy(v) for v in seeds])
        assert all(state[1] > 0 for state in states[-1]) and seeds
    np.testing.assert_array_equal(*states)


@of_torch
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_batches_of_other_lengths_are_padded(name, graphs, monkeypatch):
    """To few lengths, where padding changes nothing."""
    from keras_debias.training import torch_compiled_network

    monkeypatch.setattr(torch_compiled_network, "LENGTHS", (4, 12))
    x, y = TABLE[name].data(seed=0)

    def batches():
        for length in (6, 5, 3, 4, 5, 3):
            inputs = {k: v[:4, :length] for k, v in x.items()}
            labels = y[:4] if y.ndim == 1 else y[:4, :length]
            yield inputs, labels

    def run(jit_compile):
        parts = PARTS["EDGE"](None)
        model = kd.DebiasedModel(adapted(name), seed=0, **parts)
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=logits_loss(),
            jit_compile=jit_compile,
        )
        model.fit(batches(), verbose=0)
        return [np.array(w) for w in model.model.get_weights()]

    for a, b in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Steps of lengths 6 and 4; where tokens are scored, a mean over padding
    # would be another, and only the forward pass is padded.
    assert len(graphs) == 6
    assert len({id(graph) for graph in graphs}) == (2 if y.ndim == 1 else 4)


@of_torch
def test_lengths_are_kept_where_padding_would_show(graphs, monkeypatch):
    from keras_debias.training import torch_compiled_network

    monkeypatch.setattr(torch_compiled_network, "MOST_GRAPHS", 2)

    def build():
        keras.utils.set_random_seed(0)
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in ("token_ids", "padding_mask")
        }
        hidden = keras.layers.Embedding(9, 4)(inputs["token_ids"])
        mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
        hidden = hidden * mask
        # Of padding too.
        hidden = keras.layers.GlobalAveragePooling1D()(hidden)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))

    found = []
    for jit_compile in (False, True):
        model = ready(build(), jit_compile)
        model.fit(batches_of((6, 5, 3, 5)), verbose=0)
        found.append([np.array(w) for w in model.model.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # Of 6 and 5; the one of 3 runs as it is.
    assert len(graphs) == 3


def ready(network, jit_compile=True, **kwargs):
    model = kd.DebiasedModel(network, seed=0, **kwargs)
    model.compile(
        keras.optimizers.SGD(0.1), loss=logits_loss(), jit_compile=jit_compile
    )
    return model


def logits(model, x, y, **kwargs):
    """Outputs of `predict` and the loss of `evaluate`."""
    found = model.predict(x, verbose=0, **kwargs)
    loss = model.evaluate(x, y, verbose=0, return_dict=True, **kwargs)["loss"]
    return found, loss


@of_torch
@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet"])
def test_evaluate_and_predict_are_compiled(name, graphs):
    x, y = TABLE[name].data(seed=0)
    keras.utils.set_random_seed(0)
    network = TABLE[name].build()
    expected = logits(ready(network, False), x, y, batch_size=3)
    assert not graphs
    found = logits(ready(network), x, y, batch_size=3)
    # Eight rows: the second of three batches, then the last again.
    assert len(graphs) >= 2
    assert len({id(graph) for graph in graphs}) == 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_values_of_variables_are_those_of_a_scope():
    variables = [keras.Variable(1.0), keras.Variable(2.0)]

    def found():
        values = _keras_internals.current_values(variables)
        return [float(ops.convert_to_numpy(value)) for value in values]

    assert found() == [1.0, 2.0]
    with keras.StatelessScope([(variables[0], ops.zeros(()))]):
        assert found() == [0.0, 2.0]
    variables[1].assign(3.0)
    assert found() == [1.0, 3.0]


@of_torch
def test_a_single_batch_is_not_compiled(graphs):
    x, _ = TABLE["bert"].data(seed=0)
    model = ready(adapted("bert"))
    model.predict(x, batch_size=len(x["token_ids"]), verbose=0)
    assert not graphs


@of_torch
def test_predictions_follow_the_weights(graphs):
    """Of training, of adapters that are off, merged, or others."""
    x, y = TABLE["bert"].data(seed=0)
    model = ready(adapted("bert"))

    def same():
        eager = ops.convert_to_numpy(model.model(x, training=False))
        count = len(graphs)
        found = model.predict(x, batch_size=2, verbose=0)
        assert len(graphs) > count
        np.testing.assert_allclose(found, eager, atol=1e-5)
        return found

    first = same()
    model.fit(x, y, batch_size=4, verbose=0)
    trained = same()
    assert np.abs(trained - first).max() > 1e-4
    with kd.adapters.disabled(model.model):
        assert np.abs(same() - trained).max() > 1e-4
    np.testing.assert_allclose(same(), trained, atol=1e-6)
    kd.adapters.merge(model.model)
    np.testing.assert_allclose(same(), trained, atol=1e-5)
    kd.adapters.apply(model.model, kd.adapters.ValueBias())
    bias = next(
        v for v in model.model.trainable_variables if "head" not in v.path
    )
    bias.assign(ops.ones_like(bias))
    assert np.abs(same() - trained).max() > 1e-4


@of_torch
@pytest.mark.parametrize("jit_compile", [True, "auto"])
@pytest.mark.usefixtures("accelerator")
def test_predictions_that_cannot_be_compiled(jit_compile, capsys):
    """They are made as they would be without a compiler."""

    x, y = rows()
    network = with_layer(Decides)()
    expected = logits(ready(network, False), x, y, batch_size=2)
    found = logits(ready(network, jit_compile), x, y, batch_size=2)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert capsys.readouterr().out.count("not compiled") == 1


@of_torch
def test_predictions_keep_the_mask(graphs):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    generator = np.random.default_rng(0)
    x = generator.integers(1, 9, (8, 6)).astype("int32")
    x[:, 4:] = 0
    y = generator.integers(0, 3, (8, 6)).astype("int32")
    found = logits(ready(network), x, y, batch_size=2)
    assert graphs
    expected = logits(ready(network, False), x, y, batch_size=2)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


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
    def build():
        keras.utils.set_random_seed(0)
        model = minilm(preprocessor=None)
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
