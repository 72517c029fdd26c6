"""Values and gradients against the paper's equations in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_debias.regularizers import Consistency
from keras_debias.regularizers import Diversity
from keras_debias.regularizers import Regularizer
from keras_debias.regularizers import SpectralConcentration
from keras_debias.regularizers import SpectralNorm
from keras_debias.regularizers import TopKEntropy
from keras_debias.regularizers import TwoPhase
from keras_debias.regularizers import ba_lora
from keras_debias.regularizers import chunked_logits
from keras_debias.testing import TestCase
from keras_debias.testing.gradients import value_and_gradient

FROBENIUS = SpectralNorm.FROBENIUS
MEMBERS = [
    Consistency(0.1),
    Consistency(0.1, temperature=0.5),
    Diversity(0.2),
    TopKEntropy(0.3, k=2),
    SpectralConcentration(0.4, k=1),
    SpectralConcentration(0.4, k=2, norm=FROBENIUS),
]


def named(value):
    """The same name in every worker: a function's text has its address."""
    return str(value) if isinstance(value, Regularizer) else "equation"


@pytest.mark.filterwarnings("ignore:The regularizer")
@pytest.mark.parametrize("regularizer", MEMBERS, ids=str)
def test_contract(regularizer):
    TestCase().run_regularizer_test(regularizer)


# The equations, on the rows that count, in float64.


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def consistency(z, teacher, temperature):
    p, q = log_softmax(teacher / temperature), log_softmax(z / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()


def diversity(z, teacher=None):
    covariance = np.cov(z.T, ddof=1)
    off = covariance - np.diag(np.diag(covariance))
    return (off**2).sum() / z.shape[-1]


def top_k_entropy(z, teacher, k):
    p = np.sort(np.exp(log_softmax(z)), axis=-1)[:, -k:]
    p = p / p.sum(-1, keepdims=True)
    return (p * np.log(p)).sum(-1).mean()


def concentration(z, teacher, k, norm):
    s = np.linalg.svd(z, compute_uv=False)
    size = s.sum() if norm is SpectralNorm.NUCLEAR else np.linalg.norm(z)
    return -s[:k].sum() / size


EQUATIONS = [
    (Consistency(1.0, temperature=t), lambda z, u, t=t: consistency(z, u, t))
    for t in (0.5, 2.0)
]
EQUATIONS += [(Diversity(1.0), diversity)]
EQUATIONS += [
    (TopKEntropy(1.0, k=k), lambda z, u, k=k: top_k_entropy(z, u, k))
    for k in (2, 4)
]
EQUATIONS += [
    (
        SpectralConcentration(1.0, k=k, norm=norm),
        lambda z, u, k=k, norm=norm: concentration(z, u, k, norm),
    )
    for k in (1, 3)
    for norm in SpectralNorm
]


def numerical_gradient(function, z, step=1e-6):
    gradient = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        moved = [z.copy(), z.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return gradient


def outputs(shape, seed=0, scale=2.0):
    generator = np.random.default_rng(seed)
    return scale * generator.standard_normal(shape)


def check(regularizer, equation, z, teacher, mask=None, tolerance=1e-5):
    """Value and gradient agree, in classification or token form."""
    counted = np.ones(z.shape[:-1], bool) if mask is None else mask

    def of_rows(flat):
        full = z.copy()
        full[counted] = flat
        return equation(full[counted], teacher[counted])

    expected = of_rows(z[counted])
    gradient = np.zeros_like(z)
    gradient[counted] = numerical_gradient(of_rows, z[counted])

    def function(x):
        given = None if mask is None else ops.convert_to_tensor(mask)
        return regularizer.call(
            None, x, ops.convert_to_tensor(teacher.astype("float32")), given
        )

    value, found = value_and_gradient(function, z.astype("float32"))
    np.testing.assert_allclose(
        value, expected, atol=tolerance * max(1, abs(expected))
    )
    np.testing.assert_allclose(
        found, gradient, atol=2 * tolerance * max(1, np.abs(gradient).max())
    )


@pytest.mark.parametrize(("regularizer", "equation"), EQUATIONS, ids=named)
def test_classification(regularizer, equation):
    check(regularizer, equation, outputs((7, 5)), outputs((7, 5), 1))


@pytest.mark.parametrize(("regularizer", "equation"), EQUATIONS, ids=named)
def test_classification_with_a_mask(regularizer, equation):
    mask = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    check(regularizer, equation, outputs((7, 5)), outputs((7, 5), 1), mask)


@pytest.mark.parametrize(("regularizer", "equation"), EQUATIONS, ids=named)
@pytest.mark.parametrize("chunk", [None, 8])
def test_tokens(regularizer, equation, chunk, monkeypatch):
    """Padding takes no part, whether all rows are in one chunk or not."""
    if chunk is not None:
        monkeypatch.setattr(chunked_logits, "CHUNK", chunk)
    mask = np.ones((3, 4), bool)
    mask[1, 2:] = mask[2, 1:] = False
    z, teacher = outputs((3, 4, 6)), outputs((3, 4, 6), 1)
    check(regularizer, equation, z, teacher, mask)


def test_diversity_of_a_large_vocabulary_is_the_same(monkeypatch):
    from keras_debias.regularizers import diversity as module

    monkeypatch.setattr(module, "_FEW_OUTPUTS", 2)
    mask = np.ones((3, 4), bool)
    mask[1, 2:] = False
    z = 1.0 + outputs((3, 4, 6))
    for chunk in (2**20, 8):
        monkeypatch.setattr(chunked_logits, "CHUNK", chunk)
        check(Diversity(1.0), diversity, z, z, mask)


def test_the_randomized_decomposition_finds_the_leading_values():
    """A vocabulary of 400, singular values that fall as real logits' do."""
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.standard_normal((60, 60)))
    v, _ = np.linalg.qr(generator.standard_normal((400, 60)))
    s = 50.0 / np.arange(1, 61) ** 1.5
    z = (u * s) @ v.T
    tokens = np.zeros((5, 16, 400))
    tokens[:, :12] = z.reshape(5, 12, 400)
    tokens[:, 12:] = 9.0
    mask = np.zeros((5, 16), bool)
    mask[:, :12] = True
    regularizer = SpectralConcentration(1.0, k=4, norm=FROBENIUS)
    value, gradient = value_and_gradient(
        lambda x: regularizer.call(None, x, None, ops.convert_to_tensor(mask)),
        tokens.astype("float32"),
    )
    size, share = np.linalg.norm(z), s[:4].sum() / np.linalg.norm(z)
    np.testing.assert_allclose(value, -share, rtol=1e-5)
    expected = -u[:, :4] @ v[:, :4].T / size + share * z / size**2
    np.testing.assert_allclose(
        gradient[mask], expected, atol=1e-4 * np.abs(expected).max()
    )
    assert (gradient[~mask] == 0).all()


DEGENERATE = {
    "zeros": np.zeros((4, 3)),
    "equal rows": np.tile([[1.0, -2.0, 0.5]], (4, 1)),
    "equal singular values": np.vstack([np.eye(3), np.zeros((1, 3))]),
    "rank one": np.outer([1.0, -1.0, 2.0, 0.0], [1.0, 2.0, -3.0]),
    "certain": 1e4 * np.vstack([np.eye(3), np.eye(3)[:1]]),
}


@pytest.mark.filterwarnings("ignore:The regularizer")
@pytest.mark.parametrize("regularizer", MEMBERS, ids=str)
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_outputs_have_finite_gradients(regularizer, name):
    z = DEGENERATE[name].astype("float32")
    value, gradient = value_and_gradient(
        lambda x: regularizer.call(None, x, ops.convert_to_tensor(z)), z
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("norm", SpectralNorm)
def test_repeated_and_zero_singular_values(norm):
    """Where the sum of the leading ones has a derivative, it is found."""
    regularizer = SpectralConcentration(1.0, k=2, norm=norm)

    def equation(z, teacher):
        return concentration(z, teacher, 2, norm)

    # Two equal ones, both leading, and a third apart from them.
    z = np.vstack([np.diag([2.0, 2.0, 1.0]), np.zeros((1, 3))])
    check(regularizer, equation, z, z)
    # The third is zero: central differences of its absolute value vanish.
    z[2, 2] = 0.0
    value, gradient = value_and_gradient(
        lambda x: regularizer.call(None, x), z.astype("float32")
    )
    np.testing.assert_allclose(value, equation(z, None), atol=1e-6)
    if norm is SpectralNorm.NUCLEAR:
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_small_singular_values_are_resolved():
    """Their squares would be lost in float32."""
    z = np.vstack([np.diag([1.0, 1e-4, 1e-5]), np.zeros((3, 3))])
    value = SpectralConcentration(1.0, k=1).call(None, z.astype("float32"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(value), -1 / (1 + 1.1e-4), atol=1e-7
    )


def test_terms_that_cannot_act_warn_once_with_the_numbers():
    z = outputs((8, 3)).astype("float32")
    regularizer = SpectralConcentration(k=5)
    with pytest.warns(UserWarning, match=r"k=5 for outputs of .*\(8, 3\)"):
        value = regularizer.call(None, z)
    assert float(value) == -1.0
    # Warnings are errors here: a second one would fail.
    value, gradient = value_and_gradient(lambda x: regularizer.call(None, x), z)
    np.testing.assert_array_equal(gradient, np.zeros_like(z))
    with pytest.warns(UserWarning, match=r"one row is 0.*\(1, 3\)"):
        assert float(Diversity().call(None, z[:1])) == 0.0
    with pytest.warns(UserWarning, match="k=1"):
        assert float(TopKEntropy(k=1).call(None, z)) == 0.0
    with pytest.warns(UserWarning, match="one output"):
        assert float(Consistency().call(None, z[:, :1], z[:, :1])) == 0.0


@pytest.mark.parametrize("regularizer", MEMBERS, ids=str)
def test_nothing_to_count_is_not_a_number(regularizer):
    """The step then refuses the batch, and says why."""
    z = outputs((2, 3, 5)).astype("float32")
    mask = np.zeros((2, 3), bool)
    value = regularizer.call(None, z, ops.convert_to_tensor(z), mask)
    assert np.isnan(float(value))


# Not of a sort, which may leave it out; the step looks at the outputs.
@pytest.mark.parametrize(
    "regularizer",
    [r for r in MEMBERS if not isinstance(r, TopKEntropy)],
    ids=str,
)
def test_a_nan_among_the_outputs_does_not_raise(regularizer):
    z = outputs((4, 3)).astype("float32")
    z[1, 1] = np.nan
    value = regularizer.call(None, z, ops.convert_to_tensor(z * 0))
    assert np.isnan(float(value))


@pytest.mark.parametrize(
    "create",
    [
        lambda: Consistency(temperature=0.0),
        lambda: Consistency(temperature=-1.0),
        lambda: Consistency(temperature=float("nan")),
        lambda: Consistency(weight=-0.1),
        lambda: Consistency(weight=float("inf")),
        lambda: Consistency(weight="cosine"),
        lambda: Consistency(teacher="pretrained"),
        lambda: TopKEntropy(k=0),
        lambda: TopKEntropy(k=2.5),
        lambda: SpectralConcentration(k=0),
        lambda: SpectralConcentration(norm="nuclear"),
        lambda: TwoPhase(-1.0, 10),
        lambda: TwoPhase(1.0, 0),
        lambda: TwoPhase(1.0, 10, warmup=0.8, ramp=0.3),
        lambda: ba_lora(generation=True),
        lambda: ba_lora(steps=100),
        lambda: ba_lora(scale=0.0),
    ],
)
def test_arguments_out_of_range(create):
    with pytest.raises(ValueError, match="Expected .* Received: "):
        create()


def test_outputs_that_do_not_fit():
    z = np.zeros((2, 3, 5), "float32")
    for call, message in [
        (lambda: TopKEntropy(k=6).call(None, z), "k=6"),
        (lambda: SpectralConcentration(k=6).call(None, z), "k=6"),
        (lambda: Consistency().call(None, z, z[..., :4]), r"\(2, 3, 4\)"),
        (lambda: Consistency().call(None, z), "teacher_pred=None"),
        (lambda: Diversity().call(None, z, None, z[..., 0] > 0), None),
        (lambda: Diversity().call(None, z, None, z > 0), "mask of shape"),
        (lambda: Diversity().call(None, z[0, 0]), r"\(5,\)"),
    ]:
        if message is None:
            call()
            continue
        with pytest.raises(ValueError, match=f"Expected .*{message}"):
            call()


def test_two_phase_and_cosine():
    schedule = TwoPhase(0.5, steps=100)
    found = [float(schedule(step)) for step in (0, 20, 22.5, 25, 99)]
    np.testing.assert_allclose(found, [0, 0, 0.25, 0.5, 0.5], atol=1e-6)
    abrupt = TwoPhase(0.5, steps=100, warmup=0.1, ramp=0.0)
    assert [float(abrupt(s)) for s in (10, 11)] == [0.0, 0.5]
    always = TwoPhase(0.5, steps=100, warmup=0.0, ramp=0.0)
    assert float(always(1)) == 0.5
    falling = ba_lora(generation=True, steps=80)[0]
    for step in (0, 20, 60, 80):
        np.testing.assert_allclose(
            float(falling.weight_at(step)),
            0.0125 * (1 + np.cos(np.pi * step / 80)),
            atol=1e-7,
        )


def test_the_papers_sets():
    found = ba_lora(scale=2.0)
    assert [type(r) for r in found] == [
        Consistency,
        Diversity,
        SpectralConcentration,
    ]
    assert [r.weight for r in found] == [0.3, 0.06, 0.06]
    assert found[2].k == 5
    assert found[2].norm is SpectralNorm.NUCLEAR
    found = ba_lora(generation=True, steps=200)
    assert [type(r) for r in found] == [
        Consistency,
        TopKEntropy,
        SpectralConcentration,
    ]
    assert [float(r.weight_at(100)) for r in found] == pytest.approx(
        [0.0125, 0.005, 0.005]
    )
    assert (found[1].k, found[2].k) == (20, 10)
    assert found[2].norm is FROBENIUS


def test_a_regularizer_of_ones_own():
    class SmallLogits(Regularizer):
        def call(self, y_true, y_pred, teacher_pred=None, mask=None):
            return ops.mean(ops.square(y_pred))

    regularizer = SmallLogits(keras.optimizers.schedules.CosineDecay(1.0, 2))
    assert regularizer.name == "small_logits"
    assert not regularizer.needs_teacher
    assert float(regularizer.weight_at(1)) == pytest.approx(0.5)
