import keras
import numpy as np
import pytest
from keras import ops
from keras import optimizers

import keras_debias as kd
from keras_debias.optimizers import lora_plus

GENERATOR = np.random.default_rng(0)
STARTS = {
    "lora_a": GENERATOR.normal(size=(5, 2)).astype("float32"),
    "lora_b": GENERATOR.normal(size=(2, 3)).astype("float32"),
    "bias": GENERATOR.normal(size=3).astype("float32"),
}
GRADIENTS = [
    {k: GENERATOR.normal(size=v.shape).astype("float32") for k, v in pairs}
    for pairs in [list(STARTS.items())] * 4
]
OPTIMIZERS = {
    "momentum": lambda rate: optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate: optimizers.Adam(rate, amsgrad=True),
    "decay": lambda rate: optimizers.AdamW(rate, weight_decay=0.1),
    "clipped": lambda rate: optimizers.RMSprop(rate, global_clipnorm=0.5),
    "average": lambda rate: optimizers.Lion(
        rate, use_ema=True, ema_momentum=0.7
    ),
    "accumulated": lambda rate: optimizers.Adam(
        rate, gradient_accumulation_steps=2
    ),
    "schedule": lambda rate: optimizers.AdamW(
        optimizers.schedules.ExponentialDecay(rate, 2, 0.5), weight_decay=0.1
    ),
}


def steps(optimizer):
    """All weights after four steps, and averages of weights if there are."""
    variables = [
        keras.Variable(value, name=name) for name, value in STARTS.items()
    ]
    optimizer.build(variables)
    for gradients in GRADIENTS:
        optimizer.apply(
            [ops.convert_to_tensor(g) for g in gradients.values()], variables
        )
    found = {v.name: ops.convert_to_numpy(v) for v in variables}
    if optimizer.use_ema:
        optimizer.finalize_variable_values(variables)
        found.update(
            {f"{v.name}/average": ops.convert_to_numpy(v) for v in variables}
        )
    return found


@pytest.mark.parametrize("create", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_b_moves_as_at_sixteen_times_the_rate_and_all_else_as_before(create):
    found = steps(lora_plus(create(1e-3), ratio=16))
    slow, fast = steps(create(1e-3)), steps(create(16e-3))
    for name, value in found.items():
        expected = (fast if name.startswith("lora_b") else slow)[name]
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    assert np.abs(fast["lora_b"] - slow["lora_b"]).max() > 1e-3


@pytest.mark.parametrize("before", [True, False])
def test_excluded_from_decay(before):
    optimizer = optimizers.AdamW(1e-3, weight_decay=0.5)
    if before:
        optimizer.exclude_from_weight_decay(var_names=["lora_b"])
    optimizer = lora_plus(optimizer, 4)
    if not before:
        optimizer.exclude_from_weight_decay(var_names=["lora_b"])
    expected = steps(optimizers.Adam(4e-3))["lora_b"]
    np.testing.assert_allclose(steps(optimizer)["lora_b"], expected, rtol=1e-6)


def test_the_rate_can_be_set_on_the_way():
    optimizer = lora_plus(optimizers.SGD(1.0), 16)
    optimizer.learning_rate = 0.01
    found = steps(optimizer)
    total = {k: sum(g[k] for g in GRADIENTS) for k in STARTS}
    for name, ratio in {"lora_a": 1, "lora_b": 16, "bias": 1}.items():
        expected = STARTS[name] - 0.01 * ratio * total[name]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("create", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_config(create):
    optimizer = lora_plus(create(1e-3), ratio=3)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.ratio == 3
    assert again.get_config() == optimizer.get_config()
    assert isinstance(again, type(create(1.0)))


def create_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    kd.adapters.apply(
        model, kd.adapters.LoRA(2, targets="hidden"), also_train="head"
    )
    return model


@pytest.mark.parametrize("debiased", [False, True])
def test_in_fit(debiased, tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = np.arange(8) % 3

    def change(optimizer):
        model = create_model()
        before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
        before = [np.array(value) for value in before]
        names = [v.name for v in model.trainable_variables]
        if debiased:
            model = kd.DebiasedModel(model, seed=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        model.fit(x, y, batch_size=8, verbose=0)
        after = [ops.convert_to_numpy(v) for v in model.trainable_variables]
        moved = [a - b for a, b in zip(after, before, strict=True)]
        return model, dict(zip(names, moved))

    model, found = change(lora_plus(optimizers.SGD(0.01), 16))
    _, expected = change(optimizers.SGD(0.01))
    for name, value in expected.items():
        ratio = 16 if name == "lora_b" else 1
        np.testing.assert_allclose(
            found[name], ratio * value, rtol=1e-4, atol=1e-7
        )
    assert np.abs(found["lora_b"]).max() > 1e-4
    if debiased:
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.optimizer.ratio == 16
        assert int(loaded.optimizer.iterations) == 1


def test_same_groups_as_peft():
    import peft
    import torch
    from peft.optimizers import create_loraplus_optimizer

    network = peft.get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(5, 3)),
        peft.LoraConfig(r=2, target_modules=["0"]),
    )
    theirs = create_loraplus_optimizer(
        network, torch.optim.SGD, lr=0.01, loraplus_lr_ratio=16
    )
    named = dict(network.named_parameters())
    for letter in "ab":
        parameter = next(
            p for name, p in named.items() if f"lora_{letter.upper()}" in name
        )
        with torch.no_grad():
            start = torch.tensor(STARTS[f"lora_{letter}"].T.copy())
            parameter.copy_(start)
        gradient = GRADIENTS[0][f"lora_{letter}"].T.copy()
        parameter.grad = torch.tensor(gradient)
    theirs.step()
    variables = [
        keras.Variable(STARTS[k], name=k) for k in ("lora_a", "lora_b")
    ]
    ours = lora_plus(optimizers.SGD(0.01), 16)
    ours.build(variables)
    ours.apply(
        [ops.convert_to_tensor(GRADIENTS[0][v.name]) for v in variables],
        variables,
    )
    for variable in variables:
        letter = variable.name[-1].upper()
        expected = next(p for n, p in named.items() if f"lora_{letter}" in n)
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable),
            expected.detach().numpy().T,
            rtol=1e-6,
        )
