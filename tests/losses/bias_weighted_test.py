"""A loss weighted by a bias-only model, alone and as EDGE's bias."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from tests.losses.task_objective_test import CLASSES
from tests.losses.task_objective_test import ROWS
from tests.losses.task_objective_test import WIDTH
from tests.losses.task_objective_test import kernel
from tests.losses.task_objective_test import rows
from tests.projections.projections_test import edge_as_printed

BIAS = np.linspace(0.05, 0.95, ROWS)[::-1].copy()


def network():
    inputs = keras.Input((WIDTH,))
    layer = keras.layers.Dense(CLASSES, use_bias=False)
    result = keras.Model(inputs, layer(inputs))
    result.set_weights([kernel()])
    return result


def debiased(projection, optimizer=None):
    model = kd.DebiasedModel(network(), projection, seed=0)
    model.compile(
        optimizer or keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, batch_size=5, weight=None, **kwargs):
    split = kd.data.Split(*rows(), sample_weight=weight)
    model.fit(split, batch_size=batch_size, shuffle=False, verbose=0, **kwargs)
    return model.model.get_weights()[0]


def gradient(weights, x, y, q):
    """Of the mean of weighted cross entropies, in float64."""
    logits = x.astype("float64") @ weights
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return x.T @ ((p - np.eye(CLASSES)[y]) * q[:, None]) / len(y)


def trained(alpha, q, weight):
    """EDGE by the equations, with `b^q` in place of `p^q`."""
    x, y = rows()
    weights = kernel()
    for start in (0, 5, 10):
        part = slice(start, start + 5)
        task = gradient(weights, x[part], y[part], weight[part])
        bias = gradient(
            weights, x[part], y[part], weight[part] * BIAS[part] ** q
        )
        weights = weights - 0.5 * edge_as_printed(task, bias, alpha)
    return weights


@pytest.mark.parametrize("scope", ["variable", "global"])
@pytest.mark.parametrize(("alpha", "q"), [(1.0, 0.7), (32.0, 0.3), (8.0, 1.0)])
def test_edge_with_a_bias_only_model(alpha, q, scope):
    """Batches, and sample weights: each row must meet its own `b`."""
    weight = np.linspace(0.5, 2, ROWS).astype("float32")
    model = debiased(
        kd.projections.EDGE(alpha, q, scope, bias_probabilities=BIAS)
    )
    found = fit(model, weight=weight)
    assert model.separate_passes is None
    expected = trained(alpha, q, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # The model's own confidence is something else.
    own = fit(debiased(kd.projections.EDGE(alpha, q, scope)), weight=weight)
    assert abs(own - found).max() > 0.01


def test_one_pass_is_two(monkeypatch):
    projection = kd.projections.EDGE(8.0, bias_probabilities=BIAS)
    found = fit(debiased(projection))
    monkeypatch.setattr(BaseDebiasedModel, "shared_backward", lambda *_: None)
    np.testing.assert_allclose(found, fit(debiased(projection)), atol=1e-5)


def test_a_kept_ratio_changes_nothing_where_it_is_measured_each_time():
    """A learning rate of zero keeps the gradients of equal batches equal."""
    projection = kd.projections.EDGE(
        4.0, scope="global", refresh=3, bias_probabilities=BIAS
    )
    model = debiased(projection, keras.optimizers.SGD(0.0))
    fit(model, batch_size=ROWS)
    x, y = rows()
    task = gradient(kernel(), x, y, np.ones(ROWS))
    bias = gradient(kernel(), x, y, BIAS**0.7)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.cached_norm_ratio),
        np.linalg.norm(bias) / np.linalg.norm(task),
        rtol=1e-5,
    )


def test_large_alpha_is_the_difference_of_unit_gradients():
    x, y = rows()
    task = gradient(kernel(), x, y, np.ones(ROWS))
    bias = gradient(kernel(), x, y, BIAS**0.7)
    model = debiased(
        kd.projections.EDGE(1e5, bias_probabilities=BIAS),
        keras.optimizers.SGD(1e-5),
    )
    moved = kernel() - fit(model, batch_size=ROWS)
    unit = task / np.linalg.norm(task) - bias / np.linalg.norm(bias)
    moved, unit = (a / np.linalg.norm(a) for a in (moved, unit))
    assert (moved * unit).sum() > 0.9999
    common = task / np.linalg.norm(task) + bias / np.linalg.norm(bias)
    assert abs((unit * common).sum()) < 1e-6


def test_one_weight_for_all_tokens_of_a_sample():
    generator = np.random.default_rng(0)
    losses = generator.random((3, 4)).astype("float32")
    index = np.array([7, 0, 7], "int32")
    objective = kd.losses.BiasWeighted(BIAS, 0.5)
    found = objective(ops.convert_to_tensor(losses), index)
    expected = np.sqrt(BIAS[index])[:, None] * losses
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-5)


def test_saved_and_loaded_with_the_model(tmp_path):
    model = debiased(
        kd.projections.EDGE(8.0, bias_probabilities=BIAS),
        keras.optimizers.Adam(0.1),
    )
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(fit(loaded), fit(model), atol=1e-5)
    assert "<12 values>" in repr(loaded.projections[0])


def test_product_of_experts():
    x, y = rows()
    table = np.random.default_rng(2).dirichlet(np.ones(CLASSES), ROWS)
    model = kd.DebiasedModel(
        network(), objective=kd.losses.ProductOfExperts(table), seed=0
    )
    model.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    found = kernel() - fit(model, batch_size=ROWS)
    joint = np.exp(x.astype("float64") @ kernel()) * table
    joint /= joint.sum(-1, keepdims=True)
    expected = x.T @ (joint - np.eye(CLASSES)[y]) / ROWS
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="from 0 to 1. Received: values from"):
        kd.projections.EDGE(bias_probabilities=2 * BIAS)
    with pytest.raises(ValueError, match="of 1 dimensions"):
        kd.projections.EDGE(bias_probabilities=np.ones((4, 2)))
    with pytest.raises(ValueError, match="finite"):
        kd.losses.BiasWeighted(np.full(4, np.nan))
    with pytest.raises(ValueError, match="`q`"):
        kd.losses.BiasWeighted(BIAS, q=0.0)
    with pytest.raises(ValueError, match="sum to one"):
        kd.losses.ProductOfExperts(np.ones((4, 2)))
    for model in (
        debiased(kd.projections.EDGE(bias_probabilities=BIAS[:-1])),
        debiased(kd.projections.EDGE(bias_probabilities=np.ones(ROWS + 1))),
    ):
        with pytest.raises(ValueError, match="training rows.*12 rows"):
            fit(model)
        np.testing.assert_allclose(
            model.model.get_weights()[0], kernel(), atol=1e-6
        )
    model = debiased(kd.projections.EDGE(bias_probabilities=BIAS))
    with pytest.raises(ValueError, match="indices of the rows"):
        model.train_on_batch(*rows())
