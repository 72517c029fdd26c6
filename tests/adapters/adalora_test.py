"""AdaLoRA against PEFT's layer and rank allocator."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd

ON_TORCH = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="importing PEFT takes seconds"
)


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "tanh", name="one"),
            keras.layers.Dense(7, "tanh", name="two"),
            keras.layers.Dense(3, name="head"),
        ]
    )


def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 6)).astype("float32")
    return x, np.arange(16) % 3


def adapted(**kwargs):
    model = network()
    adapter = kd.adapters.AdaLoRA(
        **{"rank": 4, **kwargs}, targets=["one", "two"]
    )
    kd.adapters.apply(model, adapter, also_train="head")
    generator = np.random.default_rng(1)
    for layer in model.layers[:2]:
        for variable in (layer.lora_a, layer.lora_b, layer.lora_e):
            value = generator.normal(size=variable.shape, scale=0.5)
            variable.assign(value)
    return model


def debiased(model, optimizer=None, **kwargs):
    result = kd.DebiasedModel(model, seed=0, **kwargs)
    result.compile(
        optimizer or keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return result


@ON_TORCH
def test_the_budget_is_that_of_peft():
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    from peft.tuners.adalora.layer import RankAllocator

    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, tinit=3, tfinal=5, deltaT=2, total_step=20
    )
    module = torch.nn.Module()
    for name in ("one", "two"):
        part = torch.nn.Module()
        part.lora_A = torch.nn.ParameterDict(
            {"default": torch.nn.Parameter(torch.zeros(4, 6))}
        )
        module.add_module(name, part)
    theirs = RankAllocator(module, config, "default")
    ours = kd.callbacks.RankAllocator(2, 3, 5, 2, total_steps=20)
    ours.set_params({"steps": 4, "epochs": 5})
    ours.set_model(debiased(adapted()))
    ours.on_train_begin()
    for step in range(1, 21):
        assert ours.budget(step) == theirs.budget_schedule(step)[0]


class Recorder(keras.callbacks.Callback):
    """The weights and their gradients before each update, from SGD."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self._sync()
        self.before = self.values()

    def on_train_batch_end(self, batch, logs=None):
        self._sync()
        after = self.values()
        self.seen.append(
            [(b, (b - a) / 0.1) for b, a in zip(self.before, after)]
        )

    def _sync(self):
        if keras.config.backend() == "jax":
            self.model.jax_state_sync()

    def values(self):
        return [
            array(v).astype("float64")
            for layer in self.model.model.layers[:2]
            for v in (layer.lora_a, layer.lora_e, layer.lora_b)
        ]


def test_scores_are_smoothed_sensitivity_times_uncertainty():
    x, y = data()
    model = debiased(adapted(), projection=kd.projections.EDGE())
    assert "losses of its own" in model.separate_passes
    recorder = Recorder()
    allocator = kd.callbacks.RankAllocator(
        2, initial_steps=2, final_steps=1, total_steps=4, beta1=0.8, beta2=0.6
    )
    model.fit(
        *(x, y),
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[recorder, allocator],
    )
    averages, variations = [0.0] * 6, [0.0] * 6
    for step in recorder.seen[:3]:
        for i, (value, gradient) in enumerate(step):
            now = np.abs(value * gradient)
            averages[i] = 0.8 * averages[i] + 0.2 * now
            variations[i] = 0.6 * variations[i]
            variations[i] = variations[i] + 0.4 * np.abs(now - averages[i])
    scores = [a * v for a, v in zip(averages, variations)]
    triplets = np.concatenate(
        [
            a.mean(axis=0) + e + b.mean(axis=1)
            for a, e, b in (scores[:3], scores[3:])
        ]
    )
    # At the third of four updates the four best of eight are left.
    expected = np.zeros(8)
    expected[np.argsort(triplets)[4:]] = 1
    masks = [array(layer.lora_mask) for layer in model.model.layers[:2]]
    np.testing.assert_array_equal(np.concatenate(masks), expected)
    assert list(allocator.ranks.values()) == [int(m.sum()) for m in masks]
    for layer in model.model.layers[:2]:
        update = array(layer.delta())
        rank = np.linalg.matrix_rank(update, tol=1e-6)
        assert rank == array(layer.lora_mask).sum()


@ON_TORCH
def test_value_and_gradient_are_those_of_peft():
    peft = pytest.importorskip("peft")
    import torch

    x, y = data()
    model = adapted(alpha=6, orthogonality=0.0)
    linear = [
        torch.nn.Linear(6, 8),
        torch.nn.Linear(8, 7),
        torch.nn.Linear(7, 3),
    ]
    for theirs, ours in zip(linear, model.layers):
        kernel = _to_torch(array(ours.kernel).T)
        theirs.weight.data = kernel
        theirs.bias.data = _to_torch(array(ours.bias))
    names = ("one", "two", "head")
    plain = torch.nn.Sequential()
    for name, part in zip(names, linear):
        plain.add_module(name, part)
        if name != "head":
            plain.add_module(f"{name}_tanh", torch.nn.Tanh())
    config = peft.AdaLoraConfig(
        *(),
        init_r=4,
        target_r=2,
        lora_alpha=6,
        total_step=10,
        target_modules=["one", "two"],
    )
    twin = peft.get_peft_model(plain, config)
    layers = [twin.base_model.model.one, twin.base_model.model.two]
    for theirs, ours in zip(layers, model.layers):
        theirs.lora_A["default"].data = _to_torch(array(ours.lora_a).T)
        theirs.lora_E["default"].data = _to_torch(array(ours.lora_e)[:, None])
        theirs.lora_B["default"].data = _to_torch(array(ours.lora_b).T)
    logits = twin(torch.tensor(x))
    np.testing.assert_allclose(
        array(model(x)), logits.detach().numpy(), atol=1e-5
    )
    trains = sum(p.numel() for p in twin.parameters() if p.requires_grad)
    assert kd.adapters.summary(model).trainable == trains + 7 * 3 + 3

    torch.nn.functional.cross_entropy(logits, torch.tensor(y)).backward()
    before = [[array(v) for v in _triplet(x)] for x in model.layers[:2]]
    debiased(model).fit(x, y, batch_size=16, verbose=0)
    for theirs, ours, old in zip(layers, model.layers, before):
        gradients = (
            theirs.lora_A["default"].grad.T,
            theirs.lora_E["default"].grad[:, 0],
            theirs.lora_B["default"].grad.T,
        )
        for gradient, value, start in zip(gradients, _triplet(ours), old):
            np.testing.assert_allclose(
                (start - array(value)) / 0.1, gradient.numpy(), atol=1e-5
            )


def _triplet(layer):
    return layer.lora_a, layer.lora_e, layer.lora_b


def _to_torch(value):
    import torch

    return torch.tensor(np.ascontiguousarray(value))


def test_the_penalty_is_that_of_the_paper():
    model = adapted(orthogonality=0.3)
    expected = 0.0
    for layer in model.layers[:2]:
        for gram in (
            array(layer.lora_a).T @ array(layer.lora_a),
            array(layer.lora_b) @ array(layer.lora_b).T,
        ):
            expected += 0.3 * np.sum((gram - np.eye(4)) ** 2)
    np.testing.assert_allclose(
        sum(float(array(x)) for x in model.losses), expected, rtol=1e-5
    )
    assert debiased(adapted(orthogonality=0.0)).model.losses == []


def test_shares_a_backward_pass_without_the_penalty():
    x, y = data()

    def trained(shared):
        edge = kd.projections.EDGE()
        model = debiased(adapted(orthogonality=0), projection=edge)
        assert model.separate_passes is None
        if not shared:
            model._planned = model._planned[0], "for this test"
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
        return [array(v) for v in model.model.weights]

    for one, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_ranks_are_in_every_file(tmp_path):
    x, y = data()
    model = debiased(adapted(), keras.optimizers.Adam(0.01))
    allocator = kd.callbacks.RankAllocator(1, final_steps=2)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[allocator])
    assert sum(allocator.ranks.values()) == 2
    trained = array(model(x))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    assert len(again.model.losses) == 4
    kd.adapters.save(model, tmp_path / "adapter")
    again = kd.adapters.load(network(), tmp_path / "adapter")
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    kd.adapters.merge(again)
    np.testing.assert_allclose(array(again(x)), trained, atol=1e-5)
    # Another run with the same callback starts its count anew.
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[allocator])


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="Keras on torch runs one by one"
)
def test_several_steps_in_one_call():
    """8 updates, four at a time: the last allocation is not missed."""
    x, y = data()
    model = debiased(adapted(), keras.optimizers.Adam(0.01))
    model.compile(
        model.optimizer, model.loss, steps_per_execution=4, metrics=[]
    )
    allocator = kd.callbacks.RankAllocator(1, final_steps=1, interval=3)
    watch = kd.callbacks.OODEvaluation(
        {"all": kd.data.Split(x, y)}, every_steps=3
    )
    model.fit(
        *(x[:8], y[:8]),
        batch_size=1,
        verbose=0,
        callbacks=[allocator, watch],
    )
    assert sum(allocator.ranks.values()) == 2
    masks = [array(layer.lora_mask).sum() for layer in model.model.layers[:2]]
    assert sum(masks) == 2
    assert [line["step"] for line in watch.history] == [4, 8]


def test_what_it_refuses():
    x, y = data()
    allocator = kd.callbacks.RankAllocator
    with pytest.raises(TypeError, match="DebiasedModel"):
        allocator().set_model(adapted())
    for model, callback, match in (
        (adapted(), allocator(5), "at least the rank 5"),
        (network(), allocator(), "at least the rank 8"),
        (adapted(), allocator(2, 1, 1), "leave some"),
    ):
        with pytest.raises(ValueError, match=match):
            debiased(model).fit(
                *(x, y), batch_size=8, verbose=0, callbacks=[callback]
            )


def test_weights_with_a_penalty_take_separate_passes():
    """Asked within the step: on jax the weights have no values there."""
    x, y = data()
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(3, kernel_regularizer="l2")(inputs)
    model = debiased(
        keras.Model(inputs, outputs), projection=kd.projections.EDGE()
    )
    model.fit(x, y, verbose=0)
    assert "losses of its own" in model.separate_passes
