"""Objectives that know groups and rows, in the step of every backend."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd

ROWS, WIDTH, CLASSES = 12, 4, 3
GROUPS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], "int32")


def rows():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((ROWS, WIDTH)).astype("float32")
    y = generator.integers(0, CLASSES, ROWS).astype("int32")
    return x, y


def kernel():
    generator = np.random.default_rng(1)
    return 0.5 * generator.standard_normal((WIDTH, CLASSES))


def linear(objective, optimizer):
    inputs = keras.Input((WIDTH,))
    layer = keras.layers.Dense(CLASSES, use_bias=False)
    network = keras.Model(inputs, layer(inputs))
    network.set_weights([kernel()])
    model = kd.DebiasedModel(network, objective=objective, seed=0)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, batch_size=ROWS, epochs=1, groups=GROUPS):
    x, y = rows()
    split = kd.data.Split(x, y, groups=kd.data.Groups(groups, list("abc")))
    model.fit(
        split, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0
    )
    return model


def probabilities():
    x, y = rows()
    logits = x.astype("float64") @ kernel()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return logits, p, -np.log(p[np.arange(ROWS), y])


def update(objective):
    """The change of the kernel in one step of SGD with rate one, negated."""
    model = fit(linear(objective, keras.optimizers.SGD(1.0)))
    return kernel() - model.model.get_weights()[0]


def weighted(weights):
    """The gradient of the mean of weighted cross entropies."""
    x, y = rows()
    _, p, _ = probabilities()
    error = (p - np.eye(CLASSES)[y]) * weights[:, None]
    return x.T @ error / ROWS


def group_dro(losses, groups, q, step_size):
    """Algorithm 1 of Sagawa et al., for one batch: new q, row weights."""
    weights = np.zeros(len(losses))
    means = np.array(
        [
            losses[groups == g].mean() if (groups == g).any() else 0
            for g in (0, 1, 2)
        ]
    )
    q = q * np.exp(step_size * means)
    q = q / q.sum()
    for g in (0, 1, 2):
        if (groups == g).any():
            weights[groups == g] = q[g] / (groups == g).sum() * len(losses)
    return q, weights


def test_group_dro_minimizes_the_losses_of_groups_by_its_weights():
    _, _, losses = probabilities()
    _, weights = group_dro(losses, GROUPS, np.ones(3) / 3, 0.5)
    found = update(kd.losses.GroupDRO(3, step_size=0.5))
    np.testing.assert_allclose(found, weighted(weights), atol=1e-5)


def test_group_weights_follow_the_exponentiated_losses_through_fit():
    """With a rate of zero the losses stay; a batch may lack a group."""
    _, _, losses = probabilities()
    objective = kd.losses.GroupDRO(3, step_size=0.3)
    fit(linear(objective, keras.optimizers.SGD(0.0)), batch_size=5, epochs=4)
    q = np.ones(3) / 3
    for _ in range(4):
        for start in (0, 5, 10):
            part = slice(start, start + 5)
            q, _ = group_dro(losses[part], GROUPS[part], q, 0.3)
    found = ops.convert_to_numpy(objective.group_weights)
    np.testing.assert_allclose(found, q, atol=1e-5)
    assert abs(q - 1 / 3).max() > 0.05


def test_gradient_alignment_balances_both_sums():
    _, _, losses = probabilities()
    conflict = GROUPS == 2
    pull = 1 - np.exp(-losses)
    share = pull[conflict].sum() / (1.6 * pull[~conflict].sum())
    weights = np.where(conflict, 1.0, share)
    weights *= ROWS / weights.sum()
    found = update(kd.losses.GradientAlignment([2], gamma=1.6))
    np.testing.assert_allclose(found, weighted(weights), atol=1e-5)


def test_relative_difficulty_weighs_rows_by_their_index():
    _, _, losses = probabilities()
    biased = np.linspace(0, 3, ROWS).astype("float32")
    found = update(kd.losses.RelativeDifficulty(biased))
    weights = biased / (biased + losses)
    np.testing.assert_allclose(found, weighted(weights), atol=1e-5)


def test_learned_mixin_trains_the_ensemble_and_its_trust():
    x, y = rows()
    logits, p, _ = probabilities()
    generator = np.random.default_rng(2)
    bias = generator.dirichlet(np.ones(CLASSES), ROWS)
    objective = kd.losses.LearnedMixin(bias)
    model = fit(linear(objective, keras.optimizers.SGD(1.0)))
    trust = np.log(2)  # softplus of zero
    joint = np.log(p) + trust * np.log(bias)
    ensemble = np.exp(joint) / np.exp(joint).sum(-1, keepdims=True)
    error = ensemble - np.eye(CLASSES)[y]
    np.testing.assert_allclose(
        kernel() - model.model.get_weights()[0], x.T @ error / ROWS, atol=1e-5
    )
    # Through the sigmoid, the slope of softplus, which is 1/2 at zero.
    slope = (error * np.log(bias)).sum(-1) / 2
    found = ops.convert_to_numpy(objective.kernel)
    np.testing.assert_allclose(-found, slope @ logits / ROWS, atol=1e-5)
    found = ops.convert_to_numpy(objective.bias)
    np.testing.assert_allclose(-found, slope.mean(), atol=1e-5)


def test_a_function_of_each_row():
    _, p, _ = probabilities()
    right = p[np.arange(ROWS), rows()[1]]
    found = update(kd.losses.PerRow(kd.losses.GeneralizedCrossEntropy(0.7)))
    np.testing.assert_allclose(found, weighted(right**0.7), atol=1e-5)


def test_focal_is_that_of_keras():
    _, y = rows()
    _, p, losses = probabilities()
    expected = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=2.0, reduction=None
    )(np.eye(CLASSES, dtype="float32")[y], p.astype("float32"))
    found = kd.losses.Focal(2.0)(ops.convert_to_tensor(losses, "float32"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-5
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(
            kd.losses.Focal(0.0)(ops.convert_to_tensor(losses, "float32"))
        ),
        losses,
        rtol=1e-5,
    )


def test_sample_weights_come_on_top():
    x, y = rows()
    weights = np.linspace(0, 2, ROWS).astype("float32")
    biased = np.full(ROWS, 1e9)  # relative difficulty of one
    model = linear(
        kd.losses.RelativeDifficulty(biased), keras.optimizers.SGD(1.0)
    )
    model.fit(x, y, sample_weight=weights, batch_size=ROWS, verbose=0)
    np.testing.assert_allclose(
        kernel() - model.model.get_weights()[0],
        weighted(weights),
        atol=1e-5,
    )


def test_a_refused_batch_leaves_the_weights_of_groups():
    objective = kd.losses.GroupDRO(3, step_size=0.5)
    model = linear(objective, keras.optimizers.SGD(0.1))
    x, y = rows()
    x[3] = np.inf
    split = kd.data.Split(x, y, groups=kd.data.Groups(GROUPS, list("abc")))
    with pytest.raises(ValueError, match="finite"):
        model.fit(split, batch_size=ROWS, verbose=0)
    found = ops.convert_to_numpy(objective.group_weights)
    np.testing.assert_allclose(found, np.ones(3) / 3, atol=1e-6)


def test_evaluation_does_not_use_it():
    model = linear(kd.losses.GroupDRO(3), keras.optimizers.SGD(0.0))
    _, _, losses = probabilities()
    x, y = rows()
    loss = model.evaluate(x, y, batch_size=ROWS, verbose=0)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "objective",
    [
        kd.losses.GroupDRO(3),
        kd.losses.GradientAlignment([1]),
        kd.losses.RelativeDifficulty(np.ones(ROWS)),
        kd.losses.LearnedMixin(np.full((ROWS, CLASSES), 1 / CLASSES)),
        kd.losses.PerRow(kd.losses.Focal()),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_saved_and_loaded_with_the_model(objective, tmp_path):
    model = fit(linear(objective, keras.optimizers.Adam(0.1)))
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.objective) is type(objective)
    for a, b in zip(loaded.objective.weights, objective.weights, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
        )
    for one in (model, loaded):
        fit(one)
    np.testing.assert_allclose(
        loaded.model.get_weights()[0], model.model.get_weights()[0], atol=1e-5
    )


@pytest.mark.parametrize(
    "objective",
    [
        kd.losses.GroupDRO(3),
        kd.losses.GradientAlignment([1]),
        kd.losses.RelativeDifficulty(np.ones(ROWS)),
        kd.losses.ProductOfExperts(np.full((ROWS, CLASSES), 1 / CLASSES)),
        kd.losses.LearnedMixin(np.full((ROWS, CLASSES), 1 / CLASSES)),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_losses_of_tokens_are_refused(objective):
    """As many tokens as rows: weights of rows would become those of tokens."""
    values = ops.ones((ROWS, ROWS))
    with pytest.raises(ValueError, match="one loss for each row"):
        objective.call(
            ops.zeros((ROWS, ROWS), "int32"),
            ops.zeros((ROWS, ROWS, CLASSES)),
            lambda y_true, y_pred: values,
            ops.convert_to_tensor(GROUPS),
            ops.arange(ROWS),
        )


def test_bad_input():
    model = linear(kd.losses.GroupDRO(3), keras.optimizers.SGD(0.1))
    x, y = rows()
    with pytest.raises(ValueError, match="needs. Received: batches without"):
        model.fit(x, y, verbose=0)
    with pytest.raises(TypeError, match="TaskObjective"):
        linear(lambda losses: losses, keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="num_groups=1"):
        kd.losses.GroupDRO(1)
    with pytest.raises(ValueError, match="step_size=0"):
        kd.losses.GroupDRO(2, step_size=0)
    with pytest.raises(ValueError, match="sum to one"):
        kd.losses.LearnedMixin([[0.5, 0.2]])
    with pytest.raises(ValueError, match="negative"):
        kd.losses.RelativeDifficulty([-1.0])
    with pytest.raises(ValueError, match="different ids"):
        kd.losses.GradientAlignment([1, 1])
