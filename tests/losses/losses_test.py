import keras
import numpy as np
import pytest
from keras import ops

from keras_debias.losses import GeneralizedCrossEntropy
from keras_debias.losses import PerRow
from keras_debias.losses import identity
from keras_debias.losses.objective import Objective
from keras_debias.losses.objective import RowLoss

Q = 0.7
GCE = GeneralizedCrossEntropy(Q)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def value(loss, y, z, sample_weight=None):
    return float(ops.convert_to_numpy(loss(y, z, sample_weight)))


def test_value_of_probabilities():
    p = np.array([0.9, 0.5, 1e-4], "float32")
    expected = (1 - p**Q) / Q
    np.testing.assert_allclose(
        ops.convert_to_numpy(GCE(ops.convert_to_tensor(-np.log(p)))),
        expected,
        rtol=1e-5,
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_tokens_do_not_count(weighted):
    """The mean is over the other tokens, as that of the loss is."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((3, 5, 4)).astype("float32")
    y = generator.integers(0, 4, (3, 5))
    y[:, 3:] = -1
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    weights = np.array([1.0, 0.0, 3.0], "float32") if weighted else None
    weights = None if weights is None else np.repeat(weights[:, None], 5, 1)
    p = np.take_along_axis(softmax(z), np.maximum(y, 0)[..., None], -1)
    expected = (1 - p[:, :3, 0] ** Q) / Q
    if weighted:
        expected = expected * weights[:, :3]
    found = value(Objective(loss, GCE), y, z, weights)
    assert found == pytest.approx(expected.mean(), rel=1e-5)
    rows = RowLoss(loss, PerRow(GCE), None, None)
    assert value(rows, y, z, weights) == pytest.approx(expected.mean(), 1e-5)


def test_small_losses_keep_their_digits():
    losses = ops.convert_to_tensor(np.array([1e-7, 0.0], "float32"))
    found = ops.convert_to_numpy(GCE(losses))
    np.testing.assert_allclose(found, [1e-7, 0.0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["sparse", "name", "categorical", "probs"])
def test_cross_entropies(kind):
    generator = np.random.default_rng(0)
    z = generator.standard_normal((6, 4)).astype("float32")
    y = generator.integers(0, 4, 6)
    p = softmax(z)[np.arange(6), y]
    weights = generator.random(6).astype("float32")
    targets, outputs = y, z
    if kind == "sparse":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    elif kind == "categorical":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        targets = np.eye(4, dtype="float32")[y]
    else:
        outputs = softmax(z)
        loss = (
            "sparse_categorical_crossentropy"
            if kind == "name"
            else keras.losses.SparseCategoricalCrossentropy()
        )
    objective = Objective(loss, GCE)
    expected = (1 - p**Q) / Q
    np.testing.assert_allclose(
        value(objective, targets, outputs), expected.mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        value(objective, targets, outputs, weights),
        (weights * expected).mean(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        value(Objective(loss, identity), targets, outputs),
        -np.log(p).mean(),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"]
)
def test_tokens_keep_the_reduction_of_the_loss(reduction):
    generator = np.random.default_rng(1)
    z = generator.standard_normal((3, 5, 7)).astype("float32")
    y = generator.integers(0, 7, (3, 5))
    weights = (generator.random((3, 5)) > 0.4).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    )
    p = np.take_along_axis(softmax(z), y[..., None], -1)[..., 0]
    total = (weights * (1 - p**Q) / Q).sum()
    divisor = {
        "sum": 1.0,
        "sum_over_batch_size": 15.0,
        "mean_with_sample_weight": weights.sum(),
    }[reduction]
    np.testing.assert_allclose(
        value(Objective(loss, GCE), y, z, weights), total / divisor, rtol=1e-5
    )


def test_label_smoothing_uses_the_hard_labels():
    generator = np.random.default_rng(2)
    z = generator.standard_normal((5, 3)).astype("float32")
    y = generator.integers(0, 3, 5)
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2
    )
    p = softmax(z)[np.arange(5), y]
    found = value(Objective(loss, GCE), np.eye(3, dtype="float32")[y], z)
    np.testing.assert_allclose(found, ((1 - p**Q) / Q).mean(), rtol=1e-5)


@pytest.mark.parametrize("labels", [1, 4])
@pytest.mark.parametrize("name", [False, True])
def test_binary_cross_entropy_counts_each_label(labels, name):
    generator = np.random.default_rng(3)
    z = generator.standard_normal((6, labels)).astype("float32")
    y = generator.integers(0, 2, (6, labels)).astype("float32")
    positive = 1 / (1 + np.exp(-z))
    p = np.where(y == 1, positive, 1 - positive)
    loss, outputs = keras.losses.BinaryCrossentropy(from_logits=True), z
    if name:
        loss, outputs = "binary_crossentropy", positive
    found = value(Objective(loss, GCE), y, outputs)
    np.testing.assert_allclose(found, ((1 - p**Q) / Q).mean(), rtol=1e-4)


def test_equal_objectives_are_one():
    assert GeneralizedCrossEntropy(0.7) == GCE
    assert hash(GeneralizedCrossEntropy(0.7)) == hash(GCE)
    assert GeneralizedCrossEntropy(0.6) != GCE


@pytest.mark.parametrize("q", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_q_out_of_range(q):
    with pytest.raises(ValueError, match=r"Expected `q` in \(0, 1\]"):
        GeneralizedCrossEntropy(q)
