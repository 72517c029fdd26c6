import keras
import numpy as np
import pytest
from keras import ops

from keras_debias.linalg import KernelView
from keras_debias.linalg import dot
from keras_debias.linalg import kernel_view
from keras_debias.linalg import norm
from keras_debias.linalg import norms
from keras_debias.linalg import remove_component
from keras_debias.linalg import truncated_svd

SIZES = dict(zip("abcdefghklmnpqstuv", [2, 3, 4, 5] * 5))

# Those of `Dense`, of all attention layers in Keras and KerasHub, and some
# whose summed or kept axes are not the last ones.
EQUATIONS = (
    "...a,ab->...b",
    "abc,cde->abde",
    "abc,cd->abd",
    "abcd,cde->abe",
    "bqm,muh->bquh",
    "bkm,mvh->bkvh",
    "bquh,uhm->bqm",
    "btd,ndh->btnh",
    "bsd,kdh->bskh",
    "btnh,nhd->btd",
    "btd,df->btf",
    "btf,fd->btd",
    "ab...,bc->ac...",
    "a...b,cb->a...c",
    "abc,bd->adc",
    "abcd,bce->aed",
    "abcd,ecb->ade",
    "abc,bed->aecd",
    "abc,bed->adce",
    "ba,ac->cb",
)


def full(equation):
    """The equation with letters for an ellipsis, which stands for two axes."""
    return equation.replace("...", "xy")


def array(letters, seed=0):
    sizes = {**SIZES, "x": 2, "y": 3}
    shape = tuple(sizes[letter] for letter in letters)
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype("float32")


def case(equation):
    """A view, and the inputs and kernel of the equation."""
    x, kernel = full(equation).split("->")[0].split(",")
    kernel = array(kernel, seed=1)
    return KernelView(equation, kernel.shape), array(x), kernel


@pytest.mark.parametrize("equation", EQUATIONS)
def test_factors_act_as_their_product_in_the_einsum(equation):
    view, x, _ = case(equation)
    generator = np.random.default_rng(2)
    a = generator.normal(size=(view.inputs, 3)).astype("float32")
    b = generator.normal(size=(3, view.outputs)).astype("float32")
    kernel = ops.convert_to_numpy(view.from_matrix(a @ b))
    assert kernel.shape == view.shape
    expected = np.einsum(full(equation), x, kernel)

    found = view.up(view.down(x, a), b)

    assert found.shape == expected.shape
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("equation", EQUATIONS)
def test_matrix_is_the_map_of_the_einsum(equation):
    view, _, kernel = case(equation)
    matrix = ops.convert_to_numpy(view.to_matrix(kernel))
    assert matrix.shape == (view.inputs, view.outputs)

    # One unit vector for each input, flattened in the order of the kernel.
    x, axes = full(equation).split("->")[0].split(",")
    output = full(equation).split("->")[1]
    summed = [c for c in axes if c in x]
    kept = [c for c in axes if c not in x]
    batch = [c for c in x if c not in axes]
    sizes = [SIZES[c] for c in summed]
    for number in range(view.inputs):
        unit = np.zeros((*[1] * len(batch), *sizes), "float32")
        unit[(0,) * len(batch) + np.unravel_index(number, sizes)] = 1.0
        order = [(batch + summed).index(c) for c in x]
        y = np.einsum(full(equation), unit.transpose(order), kernel)
        y = y.transpose([output.index(c) for c in batch + kept])
        np.testing.assert_allclose(y.ravel(), matrix[number], atol=1e-6)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_from_matrix_undoes_to_matrix(equation):
    view, _, kernel = case(equation)
    matrix = view.to_matrix(kernel)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(view.from_matrix(matrix)), kernel
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(view.to_matrix(view.from_matrix(matrix))),
        ops.convert_to_numpy(matrix),
    )


@pytest.mark.parametrize("equation", EQUATIONS)
def test_shapes_may_be_unknown(equation):
    view, x, _ = case(equation)
    axes = full(equation).split(",")[0]
    kernel = full(equation).split("->")[0].split(",")[1]
    shape = tuple(
        n if c in kernel else None for n, c in zip(x.shape[1:], axes[1:])
    )

    class Both(keras.layers.Layer):
        def call(self, x):
            a = ops.ones((view.inputs, 2))
            return view.up(view.down(x, a), ops.ones((2, view.outputs)))

    inputs = keras.Input(shape)
    model = keras.Model(inputs, Both()(inputs))
    expected = np.einsum(full(equation), x, np.full(view.shape, 2.0))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("equation", "axes"),
    [
        # Neither summed nor only kept.
        ("abc,acd->abd", "a"),
        ("ab,b->ab", "b"),
        ("btd,tdf->btf", "t"),
        # Summed with nothing.
        ("ab,bcd->ac", "d"),
    ],
)
def test_refuses_axes_that_are_neither_inputs_nor_outputs(equation, axes):
    shape = (2,) * len(equation.split("->")[0].split(",")[1])
    with pytest.raises(ValueError, match=f"Expected an `equation`.*'{axes}'"):
        KernelView(equation, shape)


def test_kernel_view_of_layers():
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    assert kernel_view(dense) == KernelView("...a,ab->...b", (4, 3))
    query = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3))
    query.build((None, 5, 6))
    view = kernel_view(query)
    assert view == KernelView("abc,cde->abde", (6, 2, 3))
    assert (view.inputs, view.outputs) == (6, 6)


# Singular vectors.


def low_rank_matrix(noise=0.0, shape=(12, 7)):
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.normal(size=(shape[0], 3)))
    v, _ = np.linalg.qr(generator.normal(size=(shape[1], 3)))
    matrix = (u * [5.0, 3.0, 1.0]) @ v.T
    return matrix + noise * generator.normal(size=shape)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "shape", [(12, 7), (7, 12), (9, 9), (200, 120), (120, 200)]
)
def test_truncated_svd_of_a_low_rank_matrix(exact, shape):
    matrix = low_rank_matrix(shape=shape)
    u, s, vt = truncated_svd(matrix, 3, exact)
    assert u.shape == (shape[0], 3)
    assert s.shape == (3,)
    assert vt.shape == (3, shape[1])
    assert u.dtype == s.dtype == vt.dtype == "float32"
    np.testing.assert_allclose(s, [5.0, 3.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose((u * s) @ vt, matrix, atol=1e-5)
    np.testing.assert_allclose(u.T @ u, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(vt @ vt.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_truncated_svd_beyond_the_rank_of_the_matrix(exact):
    """Blocks of nothing but rounding stay orthogonal to what was found."""
    matrix = low_rank_matrix(shape=(200, 120))
    u, s, vt = truncated_svd(matrix, 6, exact)
    np.testing.assert_allclose(s, [5.0, 3.0, 1.0, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose((u * s) @ vt, matrix, atol=1e-5)
    np.testing.assert_allclose(u.T @ u, np.eye(6), atol=1e-5)


def test_truncated_svd_of_zeros():
    u, s, vt = truncated_svd(np.zeros((200, 120)), 6, exact=False)
    np.testing.assert_array_equal(s, 0.0)
    np.testing.assert_array_equal((u * s) @ vt, 0.0)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("shape", [(30, 20), (300, 200)])
def test_truncated_svd_takes_the_leading_part(exact, shape):
    matrix = low_rank_matrix(noise=0.05, shape=shape).astype("float32")
    u, s, vt = truncated_svd(matrix, 2, exact)
    full_u, full_s, full_vt = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(s, full_s[:2], rtol=1e-4)
    best = (full_u[:, :2] * full_s[:2]) @ full_vt[:2]
    np.testing.assert_allclose((u * s) @ vt, best, atol=1e-3)


@pytest.mark.parametrize("rank", [4, 16, 40])
@pytest.mark.parametrize("shape", [(384, 384), (192, 576), (1536, 576)])
def test_truncated_svd_holds_the_energy_of_a_flat_spectrum(rank, shape):
    """Random entries: no gap helps the directions to come out."""
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal(shape, dtype="float32")
    u, s, vt = truncated_svd(matrix, rank, exact=False)
    best = np.linalg.svd(matrix, compute_uv=False)[:rank]
    held = np.linalg.norm((u * s) @ vt) / np.linalg.norm(best)
    assert 0.99 < held < 1 + 1e-5
    np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-5)


def test_truncated_svd_is_a_function_of_the_seed():
    matrix = low_rank_matrix(noise=0.5, shape=(300, 200))
    state = np.random.get_state()[1].copy()
    first = truncated_svd(matrix, 2, exact=False, seed=3)
    second = truncated_svd(matrix, 2, exact=False, seed=3)
    other = truncated_svd(matrix, 2, exact=False, seed=4)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# Lists of tensors as one vector.

SCALES = [1.0, 1e-30, 1e30]


def vectors(scale, seed, dtype="float32"):
    generator = np.random.default_rng(seed)
    shapes = ((3, 4), (5,), ())
    return [
        np.asarray(scale * generator.normal(size=shape), dtype)
        for shape in shapes
    ]


def flat(tensors):
    arrays = [ops.convert_to_numpy(ops.cast(t, "float32")) for t in tensors]
    return np.concatenate([np.ravel(a).astype("float64") for a in arrays])


def tensors(arrays, dtype="float32"):
    return [ops.cast(ops.convert_to_tensor(a), dtype) for a in arrays]


@pytest.mark.parametrize("scale", SCALES)
def test_norm(scale):
    arrays = vectors(scale, 0)
    found = float(ops.convert_to_numpy(norm(tensors(arrays))))
    assert found == pytest.approx(np.linalg.norm(flat(arrays)), rel=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_norms_are_those_of_each(scale):
    arrays = [*vectors(scale, 0), np.zeros((2, 3), "float32")]
    found = ops.convert_to_numpy(norms(tensors(arrays)))
    expected = [np.linalg.norm(a.astype("float64")) for a in arrays]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # To the bit those of `norm`.
    single = [ops.convert_to_numpy(norm([t])) for t in tensors(arrays)]
    np.testing.assert_array_equal(found, single)


def test_norm_of_zeros_is_zero():
    assert float(norm(tensors(vectors(0.0, 0)))) == 0.0


def test_dot():
    a, b = vectors(1.0, 0), vectors(1.0, 1)
    found = float(ops.convert_to_numpy(dot(tensors(a), tensors(b))))
    assert found == pytest.approx(flat(a) @ flat(b), rel=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("direction_scale", SCALES)
def test_remove_component(scale, direction_scale):
    a, b = vectors(scale, 0), vectors(direction_scale, 1)
    found = remove_component(tensors(a), tensors(b))
    unit = flat(b) / np.linalg.norm(flat(b))
    expected = flat(a) - (flat(a) @ unit) * unit
    assert [tuple(t.shape) for t in found] == [x.shape for x in a]
    np.testing.assert_allclose(
        flat(found) / scale, expected / scale, rtol=0, atol=1e-5
    )
    # Nothing along the direction is left, and a second time changes nothing.
    assert abs(flat(found) @ unit) <= 1e-5 * np.linalg.norm(flat(a))
    again = remove_component(found, tensors(b))
    np.testing.assert_allclose(
        flat(again) / scale, flat(found) / scale, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("scale", SCALES)
def test_a_zero_direction_removes_nothing(scale):
    a = vectors(scale, 0)
    found = remove_component(tensors(a), tensors(vectors(0.0, 1)))
    np.testing.assert_array_equal(flat(found), flat(a))


def test_zeros_stay_zeros():
    found = remove_component(tensors(vectors(0.0, 0)), tensors(vectors(1.0, 1)))
    np.testing.assert_array_equal(flat(found), 0.0)


def test_a_vector_along_the_direction_vanishes():
    a = vectors(1.0, 0)
    found = remove_component(tensors(a), tensors([-3 * x for x in a]))
    np.testing.assert_allclose(flat(found), 0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes_are_kept_and_sums_are_float32(dtype):
    a, b = vectors(1.0, 0), vectors(1.0, 1)
    mixed = [*tensors(a[:2], dtype), *tensors(a[2:])]
    directions = [*tensors(b[:1]), *tensors(b[1:], dtype)]
    found = remove_component(mixed, directions)
    names = [keras.backend.standardize_dtype(t.dtype) for t in found]
    assert names == [dtype, dtype, "float32"]
    unit = flat(directions) / np.linalg.norm(flat(directions))
    expected = flat(mixed) - (flat(mixed) @ unit) * unit
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(flat(found), expected, atol=tolerance)
    for value in (norm(mixed), dot(mixed, directions)):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


def test_large_float16_entries_do_not_overflow():
    large = [np.full((1000,), 6e4, "float16")]
    found = float(norm(tensors(large, "float16")))
    expected = np.linalg.norm(large[0].astype("float64"))
    assert found == pytest.approx(expected, rel=1e-5)
