"""Regularizers in the step: what is added, who teaches, what is logged."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.projections import Projection
from keras_debias.regularizers import Consistency
from keras_debias.regularizers import Diversity
from keras_debias.regularizers import Regularizer
from keras_debias.regularizers import SpectralConcentration
from keras_debias.regularizers import SpectralNorm
from keras_debias.regularizers import TopKEntropy
from keras_debias.regularizers import TwoPhase
from keras_debias.testing import TestCase
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.combinations import spread
from tests.training.step_test import ROWS
from tests.training.step_test import logits_loss
from tests.training.step_test import network
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}


def adapted(adapter=None, **kwargs):
    """A small classifier with an adapter on its first layer."""
    model = network(**kwargs)
    first, last = model.layers[1], model.layers[-1]
    kd.adapters.apply(
        model,
        adapter or kd.adapters.PiSSA(rank=2, targets=(first.name,)),
        also_train=(last.name,),
    )
    return model


def moved(model, seed=3):
    """The same model with other adapter weights: no longer its teacher."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        value = ops.convert_to_numpy(variable)
        noise = generator.standard_normal(value.shape)
        variable.assign(value + 0.3 * noise.astype("float32"))
    return model


def compiled(regularizers, model=None, projection=None, **kwargs):
    model = moved(adapted()) if model is None else model
    debiased = kd.DebiasedModel(model, projection, regularizers, seed=0)
    debiased.compile(
        **{
            "optimizer": keras.optimizers.SGD(1.0),
            "loss": logits_loss(),
            **kwargs,
        }
    )
    return debiased


def one_step(regularizers, sample_weight=None, **kwargs):
    """The update of one SGD step of size one, for each variable."""
    model = compiled(regularizers, **kwargs)
    before = [
        np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables
    ]
    x, y = rows()
    history = model.fit(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=ROWS,
        shuffle=False,
        verbose=0,
    ).history
    after = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    return [b - a for a, b in zip(after, before, strict=True)], history


def some():
    return [
        Consistency(0.7),
        Diversity(0.5),
        SpectralConcentration(0.9, k=1),
    ]


class Nothing(Projection):
    """No gradient of the task: leaves what is not projected."""

    def project(self, gradients, variables):
        return [ops.zeros_like(g) for g in gradients["task"]]


def parameters(model):
    """Weights of `adapted`, by name, in float64."""
    first, last = model.layers[1], model.layers[-1]
    named = {
        "w": first.kernel,
        "b": first.bias,
        "a": first.lora_a,
        "c": first.lora_b,
        "a0": first.lora_a_start,
        "c0": first.lora_b_start,
        "head": last.kernel,
        "head_bias": last.bias,
    }
    return {
        k: ops.convert_to_numpy(v).astype("float64") for k, v in named.items()
    }


def forward(p, x, on=True):
    hidden = x @ p["w"] + p["b"]
    if on:
        hidden = hidden + x @ (p["a"] @ p["c"] - p["a0"] @ p["c0"])
    return np.tanh(hidden) @ p["head"] + p["head_bias"]


def penalty(p, x, teacher):
    """The weighted sum of `some()` in float64."""

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    z = forward(p, x)
    t, s = log_softmax(teacher / 2), log_softmax(z / 2)
    kl = 4 * (np.exp(t) * (t - s)).sum(-1).mean()
    c = np.cov(z.T)
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    values = np.linalg.svd(z, compute_uv=False)
    share = -values[0] / values.sum()
    terms = [kl, off / z.shape[-1], share]
    return 0.7 * terms[0] + 0.5 * terms[1] + 0.9 * terms[2], terms


def test_the_gradient_is_that_of_the_weighted_sum():
    """Finite differences; the teacher has the present head, and no gradient."""
    x, _ = rows()
    x = x.astype("float64")
    p = parameters(moved(adapted()))
    teacher = forward(p, x, on=False)
    found, history = one_step(some(), projection=Nothing())
    trained = ["a", "c", "head", "head_bias"]
    expected = []
    for name in trained:
        gradient = np.zeros_like(p[name])
        for index in np.ndindex(gradient.shape):
            both = []
            for step in (1e-5, -1e-5):
                q = {**p, name: p[name].copy()}
                q[name][index] += step
                both.append(penalty(q, x, teacher)[0])
            gradient[index] = (both[0] - both[1]) / 2e-5
        expected.append(gradient)
    by_shape = {e.shape: e for e in expected}
    for update in found:
        np.testing.assert_allclose(update, by_shape[update.shape], atol=2e-5)
    # The logs hold each value, without its weight.
    _, terms = penalty(p, x, teacher)
    for regularizer, term in zip(some(), terms):
        np.testing.assert_allclose(history[regularizer.name], term, atol=1e-5)


@pytest.mark.parametrize(
    "projection",
    [
        None,
        kd.projections.EDGE(alpha=1.0),
        [kd.projections.EDGE(), kd.projections.Orthogonal()],
    ],
    ids=["task", "edge", "two"],
)
def test_the_update_is_the_projected_task_plus_the_regularizers(projection):
    alone, _ = one_step(None, projection=projection)
    added, _ = one_step(some(), projection=Nothing())
    found, history = one_step(some(), projection=projection)
    for u, g, r in zip(found, alone, added, strict=True):
        np.testing.assert_allclose(u, g + r, atol=3e-6)
    # `loss` stays the task's, to be compared with `val_loss`.
    _, plain = one_step(None)
    np.testing.assert_allclose(history["loss"], plain["loss"], atol=1e-6)


def test_alignment_sees_the_task_alone():
    x, y = rows()
    logs = []
    for regularizers in (None, some()):
        model = compiled(regularizers)
        logs.append(
            model.fit(
                x,
                y,
                batch_size=ROWS,
                validation_data=(x, y),
                callbacks=[kd.callbacks.GradientCosine()],
                verbose=0,
            ).history
        )
    names = {r.name for r in some()}
    assert set(logs[1]) - set(logs[0]) == names
    for name, value in logs[0].items():
        if not name.startswith("val"):
            np.testing.assert_allclose(logs[1][name], value, atol=1e-5)


@pytest.mark.parametrize(
    ("regularizers", "forwards"),
    [
        (None, 1),
        ([Diversity()], 1),
        ([Consistency()], 2),
        ([Consistency(), Consistency(name="second"), Diversity()], 2),
    ],
    ids=["none", "without teacher", "teacher", "two with one teacher"],
)
def test_forward_passes_a_step(regularizers, forwards):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, inputs, training=None):
            calls.append(training)
            return inputs

    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, name="hidden")(Counting()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(hidden))
    kd.adapters.apply(
        model,
        kd.adapters.LoRA(rank=2, targets=("hidden",)),
        also_train=("logits",),
    )
    debiased = compiled(regularizers, model, run_eagerly=True)
    x, y = rows()
    debiased.train_on_batch(x, y)
    calls.clear()
    debiased.train_on_batch(x, y)
    assert len(calls) == forwards
    if forwards == 2:
        assert calls == [False, True]


@pytest.mark.parametrize(
    ("name", "adapter"),
    spread(
        ["bert", "llama", "functional", "vit"],
        [kd.adapters.LoRA, kd.adapters.PiSSA, kd.adapters.DoRA],
    ),
)
def test_the_teacher_is_the_pretrained_model(name, adapter):
    """Dropout off, adapters off, the present head; nothing is written."""
    seen = []

    class Sees(Regularizer):
        needs_teacher = True

        def call(self, y_true, y_pred, teacher_pred=None, mask=None):
            seen.append(teacher_pred)
            return ops.mean(ops.square(y_pred - teacher_pred))

    architecture = TABLE[name]
    base = architecture.build()
    model = architecture.build(dropout=0.5)
    kd.adapters.apply(
        model, adapter(rank=2), also_train=architecture.also_train
    )
    x, y = architecture.data()
    debiased = compiled([Sees(0.0)], model, run_eagerly=True)
    debiased.compile(
        keras.optimizers.SGD(0.0), loss=logits_loss(), run_eagerly=True
    )
    moved(model)
    # The present head, in the base model too.
    paths = {v.path: v for v in model.trainable_variables}
    for variable in base.weights:
        if variable.path in paths:
            variable.assign(ops.convert_to_numpy(paths[variable.path]))
    before = [np.array(w) for w in model.get_weights()]
    if keras.config.backend() == "jax":
        with keras.StatelessScope():
            outputs = debiased.regularization.teacher_outputs(x)
        seen = list(outputs.values())
    else:
        debiased.train_on_batch(x, y)
    expected = base.predict(x, verbose=0)
    TestCase().assert_close(ops.convert_to_numpy(seen[-1]), expected)
    gates = [w for w in model.weights if w.name == "lora_gate"]
    assert gates
    assert all(float(ops.convert_to_numpy(g)) == 1.0 for g in gates)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_teacher_takes_no_low_rank_path(monkeypatch):
    """The update is computed once a step: for the student."""
    calls = []
    update = LowRankUpdate._update

    def counted(layer, inputs, training):
        calls.append(layer.path)
        return update(layer, inputs, training)

    monkeypatch.setattr(LowRankUpdate, "_update", counted)
    architecture = TABLE["functional"]
    model = architecture.build()
    kd.adapters.apply(
        model,
        kd.adapters.PiSSA(rank=2),
        also_train=architecture.also_train,
    )
    debiased = compiled([Consistency(0.5)], model, run_eagerly=True)
    x, _ = architecture.data()
    with keras.StatelessScope():
        debiased.regularization.teacher_outputs(x)
    assert calls == []
    model(x)
    assert calls


def test_weights_follow_the_updates():
    """A schedule steps with the optimizer, accumulated steps included."""
    falling = keras.optimizers.schedules.CosineDecay(1.0, 4)
    late = TwoPhase(1.0, steps=4, warmup=0.5, ramp=0.0)
    for optimizer, updates in [
        (keras.optimizers.SGD(0.0), [0, 1, 2, 3]),
        (
            keras.optimizers.SGD(0.0, gradient_accumulation_steps=2),
            [0, 0, 1, 1],
        ),
    ]:
        model = compiled(
            [Diversity(falling), Consistency(late)], optimizer=optimizer
        )
        x, y = rows()
        for expected in updates:
            step = int(ops.convert_to_numpy(model.optimizer.iterations))
            assert step == expected
            model.train_on_batch(x, y)
    # What the weights do to the update, step by step.
    sizes = []
    for step in range(5):
        model = compiled([Diversity(falling)], projection=Nothing())
        model.optimizer.iterations.assign(step)
        x, y = rows()
        before = [np.array(w) for w in model.model.get_weights()]
        model.train_on_batch(x, y)
        after = model.model.get_weights()
        sizes.append(sum(np.abs(a - b).sum() for a, b in zip(after, before)))
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(np.array(sizes) / sizes[0], cosine, atol=1e-4)


def test_rows_without_weight_do_not_count():
    weights = np.ones(ROWS, "float32")
    weights[::3] = 0.0
    found, history = one_step(some(), sample_weight=weights)
    x, _ = rows()
    p = parameters(moved(adapted()))
    kept = x[weights > 0].astype("float64")
    _, terms = penalty(p, kept, forward(p, kept, on=False))
    for regularizer, term in zip(some(), terms):
        np.testing.assert_allclose(history[regularizer.name], term, atol=1e-5)


def token_model():
    model = TABLE["llama"].build()
    kd.adapters.apply(model, kd.adapters.PiSSA(rank=2))
    return moved(model)


def token_terms():
    return [
        Consistency(0.5),
        TopKEntropy(0.5, k=3),
        SpectralConcentration(0.5, k=2, norm=SpectralNorm.FROBENIUS),
        Diversity(0.01),
    ]


@pytest.mark.parametrize("weighting", part(["padding", "sample", "token"]))
def test_tokens_that_count(weighting):
    """Weights of tokens, else the padding mask and weights of samples."""
    x, y = TABLE["llama"].data()
    mask = x["padding_mask"].astype(bool)
    weights = None
    if weighting == "sample":
        weights = np.array([[1, 0, 1, 1, 1, 1, 1, 1]], "float32").T
        mask = mask & (weights > 0)
    elif weighting == "token":
        mask = mask.copy()
        mask[:, :2] = False
        weights = mask.astype("float32")
    model = compiled(
        token_terms(),
        token_model(),
        optimizer=keras.optimizers.SGD(0.0),
    )
    history = model.fit(
        x, y, sample_weight=weights, batch_size=len(y), shuffle=False, verbose=0
    ).history
    z = model.predict(x, verbose=0)
    with kd.adapters.disabled(model):
        teacher = model.predict(x, verbose=0)
    for regularizer in token_terms():
        value = regularizer.call(None, z, ops.convert_to_tensor(teacher), mask)
        np.testing.assert_allclose(
            history[regularizer.name], float(value), atol=1e-5
        )


def test_a_mask_that_the_network_hands_on():
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(9, 6, mask_zero=True)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(5, name="logits")(x))
    tokens = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    debiased = compiled([TopKEntropy(1.0, k=3)], model)
    history = debiased.fit(
        tokens, tokens % 5, epochs=1, shuffle=False, verbose=0
    ).history
    model = compiled([TopKEntropy(1.0, k=3)], model)
    # One update later; the value before it is what was logged.
    assert np.isfinite(history["top_k_entropy"][0])
    z = debiased.predict(tokens, verbose=0)
    later = debiased.fit(tokens, tokens % 5, shuffle=False, verbose=0).history
    expected = TopKEntropy(k=3).call(None, z, mask=tokens > 0)
    np.testing.assert_allclose(
        later["top_k_entropy"], float(expected), atol=1e-5
    )


def test_a_batch_that_is_all_padding_is_refused():
    x, y = TABLE["llama"].data()
    x = {**x, "padding_mask": np.zeros_like(x["padding_mask"])}
    model = compiled([TopKEntropy(0.1, k=3)], token_model())
    before = [np.array(w) for w in model.model.get_weights()]
    with pytest.raises(ValueError, match="top_k_entropy.*nothing to count"):
        model.fit(x, y, verbose=0)
    for a, b in zip(model.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
