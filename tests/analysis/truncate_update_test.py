import numpy as np
import pytest

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.analysis import kernels
from keras_debias.analysis import truncate_update
from tests.architectures import ARCHITECTURES

BERT = next(a for a in ARCHITECTURES if a.name == "bert")
RANK = 3


def tuned(adapter=None):
    model = BERT.build()
    kd.adapters.apply(model, adapter or kd.adapters.LoRA(RANK, alpha=6))
    generator = np.random.default_rng(0)
    for layer in adapted_layers(model).values():
        for variable in layer.trainable_variables:
            variable.assign_add(
                generator.normal(0, 0.3, variable.shape).astype("float32")
            )
    return model


def changes(model, start):
    return {
        path: after.astype("float64") - start[path]
        for path, after in kernels(model).items()
        if path.endswith(("query", "value"))
    }


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("keep", ["top", "bottom", "random"])
def test_it_is_the_singular_value_decomposition(keep, merged):
    start = kernels(BERT.build())
    model = tuned()
    before = changes(model, start)
    base = None
    if merged:
        model, base = kd.adapters.merge(model), start
    counts = truncate_update(model, base, k=2, keep=keep, seed=1)
    assert set(counts.values()) == {2}
    for path, after in changes(model, start).items():
        u, s, vt = np.linalg.svd(before[path])
        parts = [s[i] * np.outer(u[:, i], vt[i]) for i in range(RANK)]
        chosen = {"top": [(0, 1)], "bottom": [(1, 2)]}.get(
            keep, [(0, 1), (0, 2), (1, 2)]
        )
        errors = [np.abs(after - parts[i] - parts[j]).max() for i, j in chosen]
        assert min(errors) < 1e-5, path


def test_energy_chooses_the_number():
    start = kernels(BERT.build())
    numbers = set()
    for energy in (0.5, 0.99):
        model = tuned()
        expected = {}
        for path, update in changes(model, start).items():
            s = np.linalg.svd(update, compute_uv=False)[:RANK]
            held = np.cumsum(s**2) / np.sum(s**2)
            expected[path] = int(np.sum(held < energy) + 1)
        assert truncate_update(model, energy=energy) == expected
        numbers |= set(expected.values())
    assert len(numbers) > 1
    # All of it changes nothing.
    model = tuned()
    x, _ = BERT.data()
    outputs = model.predict(x, verbose=0)
    truncate_update(model, energy=1.0)
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, atol=1e-4)


@pytest.mark.once
def test_misuse():
    for arguments in (
        {},
        {"k": 1, "energy": 0.5},
        {"k": 0},
        {"energy": 1.5},
        {"k": 1, "keep": "middle"},
        {"k": 4},
    ):
        with pytest.raises(ValueError, match="Expected .* Received: "):
            truncate_update(tuned(), **arguments)
    with pytest.raises(ValueError, match="pass `base`"):
        truncate_update(tuned(kd.adapters.PiSSA(2)), k=1)
    with pytest.raises(ValueError, match="Merge them"):
        truncate_update(tuned(), kernels(BERT.build()), k=1)
    with pytest.raises(ValueError, match="or `base`"):
        truncate_update(BERT.build(), k=1)
    plain = BERT.build()
    kd.adapters.apply(plain, kd.adapters.LoRA(2))
    with pytest.raises(ValueError, match="without any update"):
        truncate_update(plain, k=1)
