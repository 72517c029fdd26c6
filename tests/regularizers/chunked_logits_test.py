"""Functions of all rows, some at a time."""

import numpy as np
import pytest
from keras import ops

from keras_debias.regularizers import chunked_logits


def outputs(shape):
    generator = np.random.default_rng(0)
    return generator.standard_normal(shape).astype("float32")


# Rows in one chunk, in equal ones, and in such that leave something.
@pytest.mark.parametrize("chunk", [1000, 9, 8, 3])
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4), (5, 1, 2), (11, 1)])
def test_map_and_sum_are_those_of_all_rows(shape, chunk, monkeypatch):
    monkeypatch.setattr(chunked_logits, "CHUNK", chunk)
    z, weights = outputs(shape), outputs((*shape[:-1], 1))

    def scaled(part, weight):
        assert len(part.shape) == 2
        return weight * ops.exp(part)

    def moments(part, weight):
        return ops.sum(weight * part), ops.matmul(ops.transpose(part), part)

    tensors = [ops.convert_to_tensor(t) for t in (z, weights)]
    found = ops.convert_to_numpy(chunked_logits.map_rows(scaled, *tensors))
    np.testing.assert_allclose(found, weights * np.exp(z), rtol=1e-6)
    first, second = chunked_logits.sum_rows(moments, *tensors)
    np.testing.assert_allclose(
        ops.convert_to_numpy(first), (weights * z).sum(), rtol=1e-5, atol=1e-6
    )
    flat = z.reshape(-1, shape[-1])
    np.testing.assert_allclose(
        ops.convert_to_numpy(second), flat.T @ flat, rtol=1e-5, atol=1e-6
    )


def test_a_chunk_is_no_longer_than_asked(monkeypatch):
    monkeypatch.setattr(chunked_logits, "CHUNK", 12)
    seen = []

    def note(part):
        seen.append(part.shape[0])
        return part

    chunked_logits.map_rows(note, ops.convert_to_tensor(outputs((2, 8, 3))))
    # Loops of a graph trace their function once.
    assert set(seen) == {4}
    seen.clear()
    chunked_logits.map_rows(note, ops.convert_to_tensor(outputs((17, 3))))
    assert sorted(set(seen)) == [1, 4]


def test_a_gradient_is_no_view(monkeypatch):
    """Torch's autograd would not add another one in place."""
    monkeypatch.setattr(chunked_logits, "CHUNK", 8)
    z = ops.convert_to_tensor(outputs((2, 7, 4)))
    found = chunked_logits.map_rows(lambda part: 2 * part, z)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), 2 * z)
    assert getattr(found, "_base", None) is None
