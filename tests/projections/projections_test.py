import keras
import numpy as np
import pytest
from keras import ops

from keras_debias.projections import EDGE
from keras_debias.projections import Orthogonal
from keras_debias.projections import PublishedEDGE
from keras_debias.projections import Subspace
from keras_debias.projections import Subtraction
from keras_debias.projections import TaskOnly
from keras_debias.testing import TestCase

PROJECTIONS = [
    (TaskOnly(), True),
    (EDGE(), False),
    (EDGE(alpha=2.0, q=0.3), False),
    (EDGE(scope="global"), False),
    (EDGE(common=False), False),
    (EDGE(bias_probabilities=np.linspace(0, 1, 5)), False),
    (Orthogonal(), True),
    (Subspace(np.eye(4)[:, :2]), True),
    (Subtraction(alpha=0.3), False),
    (PublishedEDGE(), False),
]


@pytest.mark.parametrize(("projection", "idempotent"), PROJECTIONS, ids=str)
def test_contract(projection, idempotent):
    TestCase().run_projection_test(projection, idempotent)


def gradients(seed=0):
    generator = np.random.default_rng(seed)
    shapes = [(6, 4), (4,), (3, 2, 5)]
    return [
        [generator.standard_normal(s).astype("float32") for s in shapes]
        for _ in range(2)
    ]


def project(projection, task, bias):
    named = {
        "task": [ops.convert_to_tensor(g) for g in task],
        "bias": [ops.convert_to_tensor(b) for b in bias],
    }
    variables = [keras.Variable(np.zeros_like(g)) for g in task]
    return [
        ops.convert_to_numpy(u) for u in projection.project(named, variables)
    ]


def edge_as_printed(task, bias, alpha):
    """Equations (9) to (12) on flat vectors, in float64."""
    g, b = task.astype("float64").ravel(), bias.astype("float64").ravel()
    common = g / np.linalg.norm(g) + b / np.linalg.norm(b)
    shared = (b @ common) / (common @ common) * common
    extra = b - shared
    return (g - alpha * extra).reshape(task.shape)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_edge_is_the_printed_equations(alpha):
    task, bias = gradients()
    found = project(EDGE(alpha=alpha), task, bias)
    for g, b, u in zip(task, bias, found, strict=True):
        np.testing.assert_allclose(u, edge_as_printed(g, b, alpha), atol=1e-6)


def test_global_edge_is_the_equations_on_one_vector():
    task, bias = gradients()

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    found = flat(project(EDGE(alpha=0.7, scope="global"), task, bias))
    expected = edge_as_printed(flat(task), flat(bias), 0.7)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_edge_without_common_takes_out_what_is_orthogonal_to_the_task():
    task, bias = gradients()
    found = project(EDGE(alpha=0.5, common=False), task, bias)
    for g, b, u in zip(task, bias, found, strict=True):
        extra = b - (b * g).sum() / (g * g).sum() * g
        np.testing.assert_allclose(u, g - 0.5 * extra, atol=1e-6)
        assert abs((extra * g).sum()) < 1e-4


@pytest.mark.parametrize("factor", [2.0, -2.0])
def test_edge_of_parallel_gradients(factor):
    """Antiparallel ones divide zero by zero in the printed form."""
    task, _ = gradients()
    found = project(EDGE(alpha=0.5), task, [factor * g for g in task])
    for g, u in zip(task, found, strict=True):
        extra = abs(factor) / 2 * (np.sign(factor) - 1) * g
        np.testing.assert_allclose(u, g - 0.5 * extra, rtol=1e-5)


def test_edge_with_a_zero_gradient_is_the_task():
    task, bias = gradients()
    zeros = [np.zeros_like(b) for b in bias]
    for g, u in zip(task, project(EDGE(), task, zeros), strict=True):
        np.testing.assert_array_equal(u, g)
    for u in project(EDGE(), zeros, bias):
        np.testing.assert_array_equal(u, np.zeros_like(u))


def test_edge_follows_the_loss_scale():
    task, bias = gradients()
    plain = project(EDGE(), task, bias)
    scaled = project(
        EDGE(), [2.0**15 * g for g in task], [2.0**15 * b for b in bias]
    )
    for u, s in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(s, 2.0**15 * u, rtol=1e-5)


def test_orthogonal_leaves_nothing_along_the_bias():
    task, bias = gradients()
    found = project(Orthogonal(), task, bias)
    for g, b, u in zip(task, bias, found, strict=True):
        unit = b / np.linalg.norm(b)
        np.testing.assert_allclose(u, g - (g * unit).sum() * unit, atol=1e-6)
        assert abs((u * unit).sum()) < 1e-5


def test_subtraction():
    task, bias = gradients()
    for g, b, u in zip(
        task, bias, project(Subtraction(alpha=0.3), task, bias), strict=True
    ):
        np.testing.assert_allclose(u, g - 0.3 * b, atol=1e-6)


def test_published_edge_is_the_released_script():
    """Written from the script's operations on torch's (out, in) matrices."""
    task, bias = gradients()
    found = project(PublishedEDGE(alpha=0.5, q=0.7), task, bias)
    g, b = task[0].T, 0.7 * bias[0].T
    common = g / np.linalg.norm(g) + b / np.linalg.norm(b)
    rows = [np.dot(b[i], common[i]) * common[i] for i in range(len(g))]
    expected = g - 0.5 * (b - np.stack(rows))
    np.testing.assert_allclose(found[0], expected.T, atol=1e-6)
    for index in (1, 2):
        np.testing.assert_array_equal(found[index], task[index])


@pytest.mark.parametrize(
    "create",
    [
        lambda: EDGE(alpha=-0.1),
        lambda: EDGE(alpha=float("nan")),
        lambda: EDGE(alpha=float("inf")),
        lambda: EDGE(q=0.0),
        lambda: EDGE(q=1.1),
        lambda: EDGE(q=float("nan")),
        lambda: EDGE(scope="layer"),
        lambda: Subtraction(alpha=-1.0),
        lambda: Orthogonal(q=-1.0),
        lambda: PublishedEDGE(alpha=-1.0),
    ],
)
def test_arguments_out_of_range(create):
    with pytest.raises(ValueError, match="Expected .* Received: "):
        create()
