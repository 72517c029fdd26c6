"""The step itself: what it computes, on whichever backend runs."""

import copy

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.projections import Projection
from tests.combinations import spread

ROWS, WIDTH, CLASSES = 12, 5, 3


def network(dropout=0.0, seed=0):
    """A small classifier with weights drawn by NumPy."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((WIDTH,))
    x = keras.layers.Dense(7, activation="tanh")(inputs)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    generator = np.random.default_rng(seed)
    model.set_weights(
        [0.5 * generator.standard_normal(w.shape) for w in model.get_weights()]
    )
    return model


def rows(seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((ROWS, WIDTH)).astype("float32")
    return x, generator.integers(0, CLASSES, ROWS).astype("int32")


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(projection=None, model=None, **kwargs):
    debiased = kd.DebiasedModel(model or network(), projection, seed=0)
    kwargs = {
        "optimizer": keras.optimizers.SGD(1.0),
        "loss": logits_loss(),
        **kwargs,
    }
    debiased.compile(**kwargs)
    return debiased


class OnlyBias(Projection):
    """Follows the bias objective: shows the step's second gradient."""

    def __init__(self, q=0.7):
        self.bias = kd.losses.GeneralizedCrossEntropy(q)

    @property
    def objectives(self):
        return {"task": kd.losses.identity, "bias": self.bias}

    def project(self, gradients, variables):
        return gradients["bias"]


def one_step(projection, **kwargs):
    """`-update` of one SGD step of size one, for each variable."""
    model = compiled(projection, **kwargs)
    before = [np.array(w) for w in model.model.get_weights()]
    x, y = rows()
    model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    after = model.model.get_weights()
    return [b - a for a, b in zip(after, before, strict=True)]


def test_task_gradient_is_that_of_the_compiled_loss():
    """Against finite differences of the loss in NumPy's float64."""
    x, y = rows()
    weights = [w.astype("float64") for w in network().get_weights()]

    def loss(weights):
        hidden = np.tanh(x @ weights[0] + weights[1])
        z = hidden @ weights[2] + weights[3]
        z = z - z.max(-1, keepdims=True)
        logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return -logp[np.arange(ROWS), y]

    def gradient(objective):
        found = []
        for k, weight in enumerate(weights):
            g = np.zeros_like(weight)
            for index in np.ndindex(weight.shape):
                moved = [copy.deepcopy(weights) for _ in range(2)]
                moved[0][k][index] += 1e-5
                moved[1][k][index] -= 1e-5
                g[index] = (
                    objective(loss(moved[0])) - objective(loss(moved[1]))
                ) / 2e-5
            found.append(g)
        return found

    task = gradient(np.mean)
    for found, expected in zip(one_step(None), task, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    bias = gradient(lambda losses: ((1 - np.exp(-0.7 * losses)) / 0.7).mean())
    for found, expected in zip(one_step(OnlyBias()), bias, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_edge_in_the_step_equals_the_printed_equations():
    task, bias = one_step(None), one_step(OnlyBias())
    found = one_step(kd.projections.EDGE(alpha=1.5))
    for g, b, u in zip(task, bias, found, strict=True):
        common = g / np.linalg.norm(g) + b / np.linalg.norm(b)
        shared = (b * common).sum() / (common * common).sum() * common
        np.testing.assert_allclose(u, g - 1.5 * (b - shared), atol=2e-6)


def test_global_edge_is_one_reweighted_loss():
    """METHODS: weight `1 + a|B|/(2|G|) - a/2 p^q` for each sample."""
    task, bias = one_step(None), one_step(OnlyBias())
    norms = [np.sqrt(sum((g**2).sum() for g in gs)) for gs in (task, bias)]
    x, y = rows()
    z = network().predict(x, verbose=0)
    p = np.exp(z - z.max(-1, keepdims=True))
    p = (p / p.sum(-1, keepdims=True))[np.arange(ROWS), y]
    weights = 1 + 1.5 * norms[1] / (2 * norms[0]) - 0.75 * p**0.7
    plain = compiled()
    before = [np.array(w) for w in plain.model.get_weights()]
    plain.fit(
        x,
        y,
        sample_weight=weights.astype("float32"),
        batch_size=ROWS,
        shuffle=False,
        verbose=0,
    )
    expected = [
        b - a for a, b in zip(plain.model.get_weights(), before, strict=True)
    ]
    found = one_step(kd.projections.EDGE(alpha=1.5, scope="global"))
    for u, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(u, e, atol=2e-6)


@pytest.mark.parametrize(
    "projection",
    [
        None,
        kd.projections.EDGE(),
        [kd.projections.EDGE(q=0.7), kd.projections.Subtraction(q=0.5)],
    ],
    ids=["task", "edge", "two objectives"],
)
def test_one_forward_pass_a_step(projection):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    inputs = keras.Input((WIDTH,))
    outputs = keras.layers.Dense(CLASSES)(Counting()(inputs))
    model = compiled(projection, keras.Model(inputs, outputs), run_eagerly=True)
    x, y = rows()
    model.train_on_batch(x, y)
    calls.clear()
    model.train_on_batch(x, y)
    assert len(calls) == 1


def test_projections_apply_in_order_and_share_gradients():
    task, bias = one_step(None), one_step(OnlyBias())
    found = one_step(
        [kd.projections.Subtraction(0.5), kd.projections.Orthogonal()]
    )
    for g, b, u in zip(task, bias, found, strict=True):
        first = g - 0.5 * b
        unit = b / np.linalg.norm(b)
        expected = first - (first * unit).sum() * unit
        np.testing.assert_allclose(u, expected, atol=2e-6)
    model = compiled(
        [kd.projections.Subtraction(), kd.projections.Orthogonal()]
    )
    assert len(model.objectives()) == 2


def test_a_projection_of_ones_own_is_one_method():
    class Halved(Projection):
        def project(self, gradients, variables):
            assert all(isinstance(v, keras.Variable) for v in variables)
            return [0.5 * g for g in gradients["task"]]

    for half, whole in zip(one_step(Halved()), one_step(None), strict=True):
        np.testing.assert_allclose(half, 0.5 * whole, atol=1e-6)


def test_a_projection_can_read_the_weights():
    class Decay(Projection):
        def project(self, gradients, variables):
            return [
                g + 0.1 * ops.convert_to_tensor(v)
                for g, v in zip(gradients["task"], variables)
            ]

    for found, g, w in zip(
        one_step(Decay()), one_step(None), network().get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, g + 0.1 * w, atol=1e-6)


@pytest.mark.parametrize(
    ("weighting", "optimizer"),
    spread(
        ["none", "sample", "class"],
        ["adamw", "clipped", "accumulating"],
    ),
)
def test_task_only_is_keras_own_fit(weighting, optimizer):
    create = {
        "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        "clipped": lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1),
        "accumulating": lambda: keras.optimizers.Adam(
            0.01, gradient_accumulation_steps=2
        ),
    }[optimizer]
    x, y = rows()
    kwargs = {}
    if weighting == "sample":
        kwargs["sample_weight"] = np.linspace(0, 2, ROWS).astype("float32")
    elif weighting == "class":
        kwargs["class_weight"] = {0: 2.0, 2: 0.5}
    histories, weights = [], []
    for debiased in (False, True):
        model = network()
        trained = kd.DebiasedModel(model, seed=0) if debiased else model
        trained.compile(
            create(),
            loss=logits_loss(),
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
        )
        history = trained.fit(
            x,
            y,
            batch_size=4,
            epochs=3,
            shuffle=False,
            validation_data=(x[:5], y[:5]),
            verbose=0,
            **kwargs,
        )
        histories.append(history.history)
        weights.append(model.get_weights())
    assert histories[0].keys() == histories[1].keys()
    for key, expected in histories[0].items():
        np.testing.assert_allclose(
            histories[1][key], expected, atol=1e-5, err_msg=key
        )
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "mean_with_sample_weight"]
)
def test_losses_of_tokens_are_keras_own(reduction):
    """They are computed as of rows, which is faster, and equal."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((6, 4, WIDTH)).astype("float32")
    y = generator.integers(0, CLASSES, (6, 4)).astype("int32")
    counted = (generator.random((6, 4)) > 0.3).astype("float32")
    found = []
    for debiased in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4, WIDTH)),
                keras.layers.Dense(
                    CLASSES, kernel_regularizer=keras.regularizers.L2(0.1)
                ),
            ]
        )
        trained = kd.DebiasedModel(model, seed=0) if debiased else model
        trained.compile(
            keras.optimizers.SGD(0.5),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction=reduction
            ),
        )
        history = trained.fit(
            *(x, y, 3),
            sample_weight=counted,
            shuffle=False,
            validation_data=(x, y, counted),
            verbose=0,
        )
        found.append([*history.history.values(), *model.get_weights()])
    for expected, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_weight_regularizers_and_added_losses_count():
    def create():
        inputs = keras.Input((WIDTH,))
        x = keras.layers.Dense(4, kernel_regularizer="l2")(inputs)
        x = keras.layers.ActivityRegularization(l2=0.1)(x)
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
        generator = np.random.default_rng(0)
        model.set_weights(
            [generator.standard_normal(w.shape) for w in model.get_weights()]
        )
        return model

    x, y = rows()
    found = []
    for debiased in (False, True):
        model = create()
        trained = kd.DebiasedModel(model, seed=0) if debiased else model
        trained.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        history = trained.fit(
            x, y, batch_size=6, epochs=2, shuffle=False, verbose=0
        )
        found.append([*model.get_weights(), history.history["loss"]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_network_is_in_training_mode():
    """Batch statistics as in Keras' own fit, and dropout that drops."""

    def create():
        inputs = keras.Input((WIDTH,))
        x = keras.layers.BatchNormalization(momentum=0.5)(inputs)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))

    x, y = rows()
    start, found = None, []
    for debiased in (False, True):
        model = create()
        start = start or model.get_weights()
        model.set_weights(start)
        trained = kd.DebiasedModel(model, seed=0) if debiased else model
        trained.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
        trained.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    model = compiled(
        model=network(dropout=0.9), optimizer=keras.optimizers.SGD(0.0)
    )
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    still = model.evaluate(x, y, verbose=0)
    assert len({round(v, 5) for v in (*losses, still)}) == 4


def test_a_network_whose_call_knows_no_training():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(CLASSES)

        def call(self, inputs):
            return self.dense(inputs)

    x, y = rows()
    model = Plain()
    model(x)
    compiled(model=model).fit(x, y, verbose=0)


def test_several_outputs_and_losses():
    def create():
        inputs = keras.Input((WIDTH,))
        outputs = {
            "label": keras.layers.Dense(CLASSES, name="label")(inputs),
            "flag": keras.layers.Dense(1, name="flag")(inputs),
        }
        model = keras.Model(inputs, outputs)
        generator = np.random.default_rng(0)
        model.set_weights(
            [generator.standard_normal(w.shape) for w in model.get_weights()]
        )
        return model

    x, y = rows()
    targets = {"label": y, "flag": (y > 0).astype("float32")[:, None]}
    loss = {
        "label": logits_loss(),
        "flag": keras.losses.BinaryCrossentropy(from_logits=True),
    }
    found = []
    for projection in ("keras", None, kd.projections.EDGE(alpha=0.0)):
        model = create()
        trained = model
        if projection != "keras":
            trained = kd.DebiasedModel(model, projection, seed=0)
        trained.compile(
            keras.optimizers.SGD(0.1),
            loss=loss,
            loss_weights={"label": 1.0, "flag": 0.3},
        )
        trained.fit(x, targets, batch_size=6, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_variable_that_no_objective_reaches_gets_zeros():
    class Checks(Projection):
        def project(self, gradients, variables):
            assert len(gradients["task"]) == len(variables) == 3
            return gradients["task"]

    class Unused(keras.layers.Layer):
        def build(self, shape):
            self.unused = self.add_weight(shape=(2, 2), name="unused")

        def call(self, inputs):
            return inputs

    inputs = keras.Input((WIDTH,))
    outputs = keras.layers.Dense(CLASSES)(Unused()(inputs))
    model = keras.Model(inputs, outputs)
    unused = next(v for v in model.weights if v.name == "unused")
    before = ops.convert_to_numpy(unused).copy()
    debiased = compiled([kd.projections.EDGE(), Checks()], model)
    x, y = rows()
    debiased.fit(x, y, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(unused), before)


def test_gradients_of_an_embedding_are_dense():
    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(9, 4)(inputs)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    debiased = compiled(kd.projections.EDGE(), model)
    tokens = np.random.default_rng(0).integers(0, 9, (ROWS, 3))
    debiased.fit(tokens, rows()[1], verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_alignment_is_logged_and_right():
    task, bias = one_step(None), one_step(OnlyBias())

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    task, bias = flat(task), flat(bias)
    cosine = task @ bias / np.linalg.norm(task) / np.linalg.norm(bias)
    ratio = np.linalg.norm(bias) / np.linalg.norm(task)
    x, y = rows()
    for projection in (None, kd.projections.EDGE()):
        model = compiled(projection)
        history = model.fit(
            x,
            y,
            batch_size=ROWS,
            validation_data=(x, y),
            callbacks=[kd.callbacks.GradientCosine()],
            verbose=0,
        ).history
        assert set(history) == {
            "loss",
            "val_loss",
            "gradient_cosine",
            "gradient_norm_ratio",
        }
        np.testing.assert_allclose(
            history["gradient_cosine"], cosine, atol=1e-5
        )
        np.testing.assert_allclose(
            history["gradient_norm_ratio"], ratio, rtol=1e-5
        )
    with pytest.raises(TypeError, match="DebiasedModel"):
        plain = network()
        plain.compile(loss=logits_loss())
        plain.fit(x, y, callbacks=[kd.callbacks.GradientCosine()])


def test_a_later_fit_does_not_log_the_alignment():
    x, y = rows()
    logs = [kd.callbacks.GradientCosine()]
    model = compiled(kd.projections.EDGE(scope="global", refresh=2))
    for callbacks in (None, logs, None, logs):
        history = model.fit(x, y, callbacks=callbacks, verbose=0).history
        assert ("gradient_cosine" in history) == (callbacks is not None)
        assert len(history) == (1 if callbacks is None else 3)
    plain = compiled()
    plain.fit(x, y, callbacks=logs, verbose=0)
    assert plain.objectives() == [kd.losses.identity]


def test_a_fit_after_an_error_does_not_log_the_alignment():
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    x, y = rows()
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x, y, callbacks=[kd.callbacks.GradientCosine(), Fails()], verbose=0
        )
    assert model.objectives() == [kd.losses.identity]
    assert set(model.fit(x, y, verbose=0).history) == {"loss"}


def test_steps_that_overflow_do_not_count_in_the_alignment():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = rows()
    model = compiled(
        optimizer=keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.0), initial_scale=2.0**24
        )
    )
    model.fit(x, y, batch_size=ROWS, verbose=0)
    assert float(ops.convert_to_numpy(model.optimizer.dynamic_scale)) < 2**24
    history = model.fit(
        x,
        y,
        batch_size=ROWS,
        steps_per_epoch=30,
        callbacks=[kd.callbacks.GradientCosine()],
        verbose=0,
    ).history
    task, bias = (
        np.concatenate([u.ravel() for u in one_step(projection)])
        for projection in (None, OnlyBias())
    )
    cosine = task @ bias / np.linalg.norm(task) / np.linalg.norm(bias)
    assert history["gradient_cosine"] == pytest.approx([cosine], abs=0.02)


def test_edge_under_accumulation_is_the_mean_over_small_batches():
    """Not EDGE of the whole batch: the docstring says so."""
    x, y = rows()
    x, y = x[:8], y[:8]

    def change(x, y, batch_size, steps):
        model = network()
        before = [np.array(w) for w in model.get_weights()]
        trained = kd.DebiasedModel(model, kd.projections.EDGE(2.0), seed=0)
        trained.compile(
            keras.optimizers.SGD(1.0, gradient_accumulation_steps=steps),
            loss=logits_loss(),
        )
        trained.fit(
            x, y, batch_size=batch_size, shuffle=False, epochs=1, verbose=0
        )
        return [
            w - old for w, old in zip(model.get_weights(), before, strict=True)
        ]

    found = change(x, y, 4, 2)
    parts = change(x[:4], y[:4], 4, None), change(x[4:], y[4:], 4, None)
    whole = change(x, y, 8, None)
    for f, one, other in zip(found, *parts, strict=True):
        np.testing.assert_allclose(f, (one + other) / 2, atol=1e-6)
    assert max(np.abs(f - w).max() for f, w in zip(found, whole)) > 1e-3
