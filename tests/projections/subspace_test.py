"""What `Subspace` promises: no update enters it, whatever the optimizer."""

import os

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.constrain import constrain
from keras_debias.analysis.kernel_updates import adapter_updates
from keras_debias.analysis.kernel_updates import kernels
from keras_debias.analysis.kernel_updates import model_updates
from keras_debias.linalg import kernel_view
from tests.architectures import ARCHITECTURES
from tests.architectures import HIDDEN_DIM
from tests.combinations import part

BERT = next(a for a in ARCHITECTURES if a.name == "bert")
TARGETS = ("query", "value", "attention_output", "feedforward_output_dense")

ADAPTERS = {
    "LoRA": lambda: kd.adapters.LoRA(2, targets=TARGETS),
    "PiSSA": lambda: kd.adapters.PiSSA(2, targets=TARGETS),
    "DoRA": lambda: kd.adapters.DoRA(
        2, targets=("query", "value", "feedforward_output_dense")
    ),
    "TargetLayer": lambda: kd.adapters.TargetLayer(
        1, modules=("query", "attention_output")
    ),
    "full": None,
}
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.01, clipvalue=0.1),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.3, clipnorm=1.0, gradient_accumulation_steps=2
    ),
    "Lion": lambda: keras.optimizers.Lion(0.03, weight_decay=0.1),
    "Muon": lambda: keras.optimizers.Muon(0.05, global_clipnorm=1.0),
}


def directions(scope, side, model, k=2):
    def draw(seed):
        noise = np.random.default_rng(seed).standard_normal((HIDDEN_DIM, k))
        return np.linalg.qr(noise)[0]

    shared = kd.Directions(draw(0), side)
    if scope == "shared":
        return shared
    paths = [
        path
        for path in kernels(model)
        if shared.role_of(path, adapted=False) is not None
    ]
    return kd.Directions({p: draw(i) for i, p in enumerate(paths)}, side)


def leaks(model, start, chosen, adapted):
    """`(path, leak, limit)` of every layer that meets the directions."""
    updates = adapter_updates(model) if adapted else model_updates(model, start)
    found = []
    for path, (p, q) in updates.items():
        side = chosen.role_of(path, adapted)
        if side is None:
            continue
        update = p if q is None else p @ q
        v = chosen.of(path).astype("float64")
        leak = v.T @ update if side == "read" else update @ v
        limit = 1e-6 * np.linalg.norm(update)
        if q is not None:
            # Factors are rounded at their own size, which PiSSA's have from
            # the kernel, however small the update is.
            limit += 1e-7 * np.linalg.norm(p) * np.linalg.norm(q)
        else:
            # Full matrices are rounded beside the kernel.
            limit += 1e-7 * np.linalg.norm(start[path])
        assert np.linalg.norm(update) > 1e-3, path
        found.append((path, np.linalg.norm(leak), limit))
    return found


def random_step(optimizer, variables, generator):
    """An update that no projection has seen."""
    gradients = [
        ops.convert_to_tensor(
            generator.standard_normal(v.shape).astype("float32")
        )
        for v in variables
    ]
    optimizer.apply(gradients, variables)


@pytest.mark.parametrize(
    ("adapter", "scope", "side"),
    part(
        [
            *((a, s, "both") for a in ADAPTERS for s in ("shared", "layer")),
            ("LoRA", "shared", "read"),
            ("PiSSA", "layer", "write"),
        ],
        period=4,
    ),
)
def test_no_optimizer_leaves_the_subspace(adapter, scope, side):
    """With random gradients, which nothing has projected."""
    model = BERT.build()
    start = kernels(model)
    if ADAPTERS[adapter]:
        kd.adapters.apply(model, ADAPTERS[adapter]())
    chosen = directions(scope, side, model)
    constrained = constrain(model, chosen)
    ids = {id(v) for v in constrained}
    variables = [v for v in model.trainable_variables if id(v) in ids]
    # The factors on the other side move as well.
    for layer in adapted_layers(model).values():
        variables += [v for v in layer.trainable_variables if id(v) not in ids]
    before = [np.array(ops.convert_to_numpy(v)) for v in variables]
    generator = np.random.default_rng(0)
    for name, create in OPTIMIZERS.items():
        optimizer = create()
        optimizer.build(variables)
        for _ in range(4):
            random_step(optimizer, variables, generator)
        found = leaks(model, start, chosen, bool(ADAPTERS[adapter]))
        assert found
        for path, leak, limit in found:
            assert leak <= limit, (name, path, leak, limit)
        for variable, value in zip(variables, before):
            variable.assign(value)
    for path, layer in adapted_layers(model).items():
        if adapter in ("LoRA", "PiSSA", "DoRA"):
            kernel = kernel_view(layer).to_matrix(layer.kernel)
            np.testing.assert_array_equal(
                ops.convert_to_numpy(kernel), start[path]
            )


COMPILED = [
    ("full", "Lion", "layer"),
    ("PiSSA", "AdamW", "layer"),
    ("DoRA", "Adam", "shared"),
    ("LoRA", "Muon", "shared"),
]


@pytest.mark.parametrize(
    ("adapter", "optimizer", "scope"), part(COMPILED, period=4)
)
def test_fit_save_and_go_on(adapter, optimizer, scope, tmp_path):
    """Compiled steps, then a file, then more steps of what it held."""
    x, y = BERT.data()
    model = BERT.build()
    start = kernels(model)
    if ADAPTERS[adapter]:
        kd.adapters.apply(model, ADAPTERS[adapter]())
    chosen = directions(scope, "both", model)
    outputs = model.predict(x, verbose=0)
    debiased = kd.DebiasedModel(
        model,
        [kd.projections.EDGE(), kd.projections.Subspace(chosen)],
        kd.regularizers.Diversity(weight=0.1),
        seed=0,
    )
    # A new start under the constraint changes nothing.
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, atol=1e-5)
    debiased.compile(OPTIMIZERS[optimizer](), loss=BERT.loss())
    debiased.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert np.abs(model.predict(x, verbose=0) - outputs).max() > 1e-3
    for path, leak, limit in leaks(model, start, chosen, adapter != "full"):
        assert leak <= limit, (path, leak, limit)

    debiased.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), debiased.predict(x, verbose=0), atol=1e-6
    )
    assert loaded.projections[1].directions == chosen
    for each in (debiased, loaded):
        each.fit(x, y, batch_size=4, epochs=1, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), debiased.predict(x, verbose=0), atol=1e-5
    )
    for path, leak, limit in leaks(
        loaded.model, start, chosen, adapter != "full"
    ):
        assert leak <= limit, (path, leak, limit)


@pytest.mark.parametrize("adapter", part(["PiSSA", "DoRA"], period=2))
def test_a_constrained_adapter_is_saved_disabled_and_merged(adapter, tmp_path):
    """What it has learned under the constraint needs no `Subspace` later."""
    x, y = BERT.data()
    model = BERT.build()
    start = kernels(model)
    kd.adapters.apply(model, ADAPTERS[adapter]())
    debiased = kd.DebiasedModel(
        model,
        kd.projections.Subspace(directions("shared", "both", model)),
        seed=0,
    )
    debiased.compile(keras.optimizers.Adam(0.01), loss=BERT.loss())
    debiased.fit(x, y, batch_size=8, epochs=3, verbose=0)
    trained = model.predict(x, verbose=0)
    kd.adapters.save(model, tmp_path / "adapter")
    loaded = kd.adapters.load(BERT.build(), tmp_path / "adapter")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), trained, atol=1e-5)
    with kd.adapters.disabled(model):
        for path, kernel in kernels(model).items():
            if "self_attention" in path:
                np.testing.assert_array_equal(kernel, start[path])
    kd.adapters.merge(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), trained, atol=1e-5)
    assert not [v for v in model.variables if v.constraint is not None]


@pytest.mark.once
def test_projecting_gradients_alone_leaks_under_adam():
    """The reason for the constraint, with its number."""
    x, y = BERT.data()
    found = {}
    for name in ("constraint", "gradients"):
        model = BERT.build()
        start = kernels(model)
        kd.adapters.apply(model, ADAPTERS["LoRA"]())
        chosen = directions("shared", "read", model)
        debiased = kd.DebiasedModel(
            model, kd.projections.Subspace(chosen), seed=0
        )
        optimizer = keras.optimizers.Adam(0.01)
        if name == "gradients":
            optimizer = Unconstrained(0.01)
        debiased.compile(optimizer, loss=BERT.loss())
        debiased.fit(x, y, batch_size=4, epochs=5, verbose=0)
        found[name] = max(
            1e-6 * leak / limit
            for _, leak, limit in leaks(model, start, chosen, True)
        )
    print(found)
    assert found["constraint"] < 1e-6
    assert found["gradients"] > 0.05


@keras.saving.register_keras_serializable(package="keras_debias_tests")
class Unconstrained(keras.optimizers.Adam):
    """Applies projected gradients, and no constraint after them."""

    def apply(self, grads, trainable_variables=None):
        kept = [v.constraint for v in self._trainable_variables]
        for variable in self._trainable_variables:
            variable.constraint = None
        result = super().apply(grads, trainable_variables)
        for variable, constraint in zip(self._trainable_variables, kept):
            variable.constraint = constraint
        return result


def test_gradients_are_projected():
    chosen = directions("shared", "both", None)
    subspace = kd.projections.Subspace(chosen)
    a = keras.Variable(np.ones((HIDDEN_DIM, 3), "float32"))
    free = keras.Variable(np.ones((HIDDEN_DIM, 3), "float32"))
    a.constraint = kd.constraints.OrthogonalUpdate(chosen.vectors)
    gradient = np.random.default_rng(0).standard_normal(a.shape)
    gradient = ops.convert_to_tensor(gradient.astype("float32"))
    first, second = subspace.project({"task": [gradient] * 2}, [a, free])
    v = chosen.vectors
    expected = ops.convert_to_numpy(gradient)
    np.testing.assert_array_equal(ops.convert_to_numpy(second), expected)
    np.testing.assert_allclose(
        ops.convert_to_numpy(first), expected - v @ (v.T @ expected), atol=1e-6
    )


@pytest.mark.once
def test_a_backup_resumes(tmp_path):
    x, y = BERT.data()

    def debiased():
        model = BERT.build()
        return kd.DebiasedModel(
            model,
            kd.projections.Subspace(directions("shared", "read", model)),
            seed=0,
        )

    def fit(model, epochs):
        model.compile(keras.optimizers.Adam(0.01), loss=BERT.loss())
        model.fit(
            x,
            y,
            batch_size=8,
            epochs=epochs,
            verbose=0,
            callbacks=[
                keras.callbacks.BackupAndRestore(
                    os.fspath(tmp_path / "backup"), delete_checkpoint=False
                )
            ],
        )
        return model.predict(x, verbose=0)

    whole = debiased()
    whole.compile(keras.optimizers.Adam(0.01), loss=BERT.loss())
    whole.fit(x, y, batch_size=8, epochs=4, verbose=0)
    fit(debiased(), 2)
    resumed = fit(debiased(), 4)
    np.testing.assert_allclose(resumed, whole.predict(x, verbose=0), atol=1e-5)


def test_another_model_around_the_network_is_free_again():
    model = BERT.build()
    kd.adapters.apply(model, kd.adapters.LoRA(2))
    chosen = directions("shared", "read", model)
    kd.DebiasedModel(model, kd.projections.Subspace(chosen))
    held = [v for v in model.variables if v.constraint is not None]
    assert len(held) == 4
    with pytest.warns(UserWarning, match="has constrained 4 weights"):
        kd.DebiasedModel(model)
    assert not [v for v in model.variables if v.constraint is not None]


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda m: np.eye(5)[:, :1], "width 8.*width 5"),
        (
            lambda m: kd.Directions({"nowhere": np.eye(8)[:, :1]}),
            "nowhere",
        ),
        (
            lambda m: kd.Directions(np.eye(8)[:, :1], side="write"),
            "at least one trained kernel",
        ),
        (
            lambda m: kd.Directions(
                {
                    "transformer_layer_0/self_attention_layer/query": np.eye(8)[
                        :, :1
                    ]
                }
            ),
            "for each adapted layer",
        ),
    ],
)
def test_directions_that_do_not_fit_change_nothing(create, message):
    model = BERT.build()
    kd.adapters.apply(model, kd.adapters.LoRA(2))
    before = [np.array(ops.convert_to_numpy(v)) for v in model.weights]
    with pytest.raises(ValueError, match=message):
        kd.DebiasedModel(model, kd.projections.Subspace(create(model)))
    for variable, value in zip(model.weights, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
        assert variable.constraint is None


@pytest.mark.parametrize("adapter", ["LoRA", "PiSSA", "DoRA", "TargetLayer"])
def test_what_was_learned_already_is_not_taken_away(adapter):
    model = BERT.build()
    kd.adapters.apply(model, ADAPTERS[adapter]())
    generator = np.random.default_rng(0)
    for layer in adapted_layers(model).values():
        for variable in layer.trainable_variables:
            noise = generator.standard_normal(variable.shape)
            variable.assign_add(noise.astype("float32"))
    chosen = directions("shared", "both", model)
    with pytest.raises(ValueError, match="learned nothing along"):
        kd.DebiasedModel(model, kd.projections.Subspace(chosen))


def test_other_misuse():
    with pytest.raises(TypeError, match=r"\.directions"):
        kd.projections.Subspace("leading")
    model = BERT.build()
    subspace = kd.projections.Subspace(directions("shared", "read", model))
    with pytest.raises(ValueError, match="at most one"):
        kd.DebiasedModel(model, [subspace, subspace])
    debiased = kd.DebiasedModel(model, subspace)
    debiased.compile("sgd", loss=BERT.loss())
    model.get_layer("logits").trainable = False
    with pytest.raises(ValueError, match="new `DebiasedModel`"):
        debiased.fit(*BERT.data(), verbose=0)
    layer = model.backbone.get_layer("pooled_dense")
    layer.kernel.constraint = keras.constraints.NonNeg()
    with pytest.raises(ValueError, match="constraint of their own"):
        kd.DebiasedModel(model, subspace)
