"""Masks of dropout from a quarter of the random numbers, on torch."""

import keras
import numpy as np
import pytest
import torch

from keras_debias import _keras_internals
from keras_debias.training.torch_compiled_call import seeded
from tests.training.step_test import compiled
from tests.training.step_test import network
from tests.training.step_test import rows

SHAPE = (40, 30, 301)


def dropped(rate, seed=0, dtype=torch.float32):
    """Outputs and gradients for inputs of ones."""
    layer = keras.layers.Dropout(rate)
    ones = torch.ones(SHAPE, dtype=dtype, requires_grad=True)
    with seeded(seed), _keras_internals.fast_dropout():
        outputs = layer(ones, training=True)
    (gradient,) = torch.autograd.grad(outputs.sum(), ones)
    return outputs.detach().double().numpy(), gradient.double().numpy()


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.9])
def test_entries_are_kept_independently_at_the_rate(rate):
    outputs, gradient = dropped(rate)
    np.testing.assert_array_equal(outputs, gradient)
    kept = outputs > 0
    count = kept.size
    spread = np.sqrt(rate * (1 - rate) / count)
    assert abs(kept.mean() - (1 - rate)) < 4 * spread
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-4)
    # Also of entries that share 64 bits.
    flat = kept.ravel() - (1 - rate)
    for distance in range(1, 9):
        product = flat[:-distance] * flat[distance:]
        assert abs(product.mean()) < 5 * rate * (1 - rate) / np.sqrt(count)


def test_a_seed_repeats_them_and_another_does_not():
    first, _ = dropped(0.5)
    np.testing.assert_array_equal(first, dropped(0.5)[0])
    share = (first == dropped(0.5, seed=1)[0]).mean()
    assert abs(share - 0.5) < 0.01


def test_half_precision():
    outputs, _ = dropped(0.5, dtype=torch.bfloat16)
    assert set(np.unique(outputs)) == {0.0, 2.0}


def test_others_are_keras_own():
    ones = torch.ones(SHAPE)
    for options in ({"seed": 3}, {"noise_shape": (40, 1, 301)}):
        found = []
        for fast in (False, True):
            keras.utils.set_random_seed(0)
            layer = keras.layers.Dropout(0.5, **options)
            if fast:
                with _keras_internals.fast_dropout():
                    found.append(layer(ones, training=True))
            else:
                found.append(layer(ones, training=True))
        assert torch.equal(*found)
    with _keras_internals.fast_dropout():
        assert torch.equal(keras.layers.Dropout(0.0)(ones, training=True), ones)


def test_steps_draw_such_masks(monkeypatch):
    calls = []
    plain = torch.nn.functional.dropout

    def counted(*args, **kwargs):
        calls.append(args)
        return plain(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "dropout", counted)
    model = compiled(model=network(dropout=0.5))
    x, y = rows()
    model.fit(x, y, verbose=0)
    assert not calls
    keras.layers.Dropout(0.5)(torch.ones(3), training=True)
    assert len(calls) == 1
