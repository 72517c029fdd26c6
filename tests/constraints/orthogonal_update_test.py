import keras
import numpy as np
import pytest
from keras import ops

from keras_debias.constraints import OrthogonalUpdate


def orthonormal(width, k, seed=0):
    noise = np.random.default_rng(seed).standard_normal((width, k))
    return np.linalg.qr(noise)[0]


@pytest.mark.parametrize("side", ["read", "write"])
@pytest.mark.parametrize("k", [1, 3])
def test_it_is_the_projection_written_out(side, k):
    generator = np.random.default_rng(1)
    w, start = generator.standard_normal((2, 6, 5))
    v = orthonormal(6 if side == "read" else 5, k)
    if side == "read":
        component = v.T @ start
        expected = w - v @ v.T @ (w - start)
    else:
        component = start @ v
        expected = w - (w - start) @ v @ v.T
    constraint = OrthogonalUpdate(v, side, component)
    found = ops.convert_to_numpy(constraint(w.astype("float32")))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Twice is once, and what is free stays as it is.
    again = ops.convert_to_numpy(constraint(found))
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_kernels_of_einsum_layers_are_seen_as_matrices():
    generator = np.random.default_rng(2)
    kernel = generator.standard_normal((2, 6, 3)).astype("float32")
    v = orthonormal(6, 2)
    constraint = OrthogonalUpdate(v, equation="btd,ndh->btnh")
    found = ops.convert_to_numpy(constraint(kernel))
    expected = kernel - np.einsum("dk,ek,neh->ndh", v, v, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_part_of_the_start_is_not_taken_from_gradients():
    v = orthonormal(4, 1)
    constraint = OrthogonalUpdate(v, component=np.ones((1, 3)))
    gradient = np.random.default_rng(0).standard_normal((4, 3))
    found = constraint.project_gradient(gradient.astype("float32"))
    assert np.abs(v.T @ ops.convert_to_numpy(found)).max() < 1e-6


def test_config_and_dtype():
    constraint = OrthogonalUpdate(
        orthonormal(4, 2), "write", np.ones((3, 2)), "...a,ab->...b"
    )
    config = keras.saving.serialize_keras_object(constraint)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == constraint.get_config()
    w = ops.ones((3, 4), dtype="bfloat16")
    assert keras.backend.standardize_dtype(again(w).dtype) == "bfloat16"


@pytest.mark.parametrize(
    "arguments", [{"directions": np.ones(3)}, {"side": "both"}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Expected .* Received: "):
        OrthogonalUpdate(**{"directions": np.eye(3), **arguments})
