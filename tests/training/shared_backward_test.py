"""Two objectives in one backward pass: the same gradients, or none of it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.combinations import spread
from tests.real_models import minilm
from tests.training.step_test import CLASSES
from tests.training.step_test import OnlyBias
from tests.training.step_test import compiled
from tests.training.step_test import network
from tests.training.step_test import one_step
from tests.training.step_test import rows

TABLE = {a.name: a for a in ARCHITECTURES}
ADAPTERS = {
    "LoRA": lambda: kd.adapters.LoRA(rank=2),
    "PiSSA": lambda: kd.adapters.PiSSA(rank=2),
    "ValueBias": lambda: kd.adapters.ValueBias(),
    "low-rank biases": lambda: kd.adapters.ValueBias(
        form=kd.adapters.LoRABias(rank=1)
    ),
    "AllBiases": lambda: kd.adapters.AllBiases(),
    "TargetLayer": lambda: kd.adapters.TargetLayer(1),
    "two": lambda: [kd.adapters.LoRA(rank=2), kd.adapters.ValueBias()],
}


def updates(create, x, y, together, monkeypatch, projection=None, **kwargs):
    """`-update` of one SGD step of size one, and why it took more passes."""
    model = create()
    debiased = kd.DebiasedModel(
        model,
        projection or kd.projections.EDGE(alpha=0.7, scope="global"),
        regularizers=kwargs.pop("regularizers", None),
        objective=kwargs.pop("objective", None),
        seed=0,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    debiased.compile(
        keras.optimizers.SGD(1.0), loss=kwargs.pop("loss", loss), metrics=[]
    )
    reason = debiased.separate_passes
    before = [ops.convert_to_numpy(v) for v in debiased.trainable_variables]
    before = [np.array(v) for v in before]
    with monkeypatch.context() as patch:
        if not together:
            patch.setattr(BaseDebiasedModel, "shared_backward", lambda *_: None)
        debiased.train_on_batch(x, y, **kwargs)
    after = [ops.convert_to_numpy(v) for v in debiased.trainable_variables]
    return [b - a for b, a in zip(before, after)], reason


def check(create, x, y, monkeypatch, tolerance=1e-5, **kwargs):
    """One pass against several; returns why there were several."""
    found, reason = updates(create, x, y, True, monkeypatch, **kwargs)
    expected, _ = updates(create, x, y, False, monkeypatch, **kwargs)
    scale = max(np.abs(e).max() for e in expected)
    assert scale > 0
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * scale)
    return reason


@pytest.mark.parametrize(
    ("name", "adapter"), spread(["bert", "roberta", "vit"], ADAPTERS, period=6)
)
def test_the_gradients_are_those_of_two_passes(name, adapter, monkeypatch):
    architecture = TABLE[name]

    def create():
        # With dropout, both see one mask.
        model = architecture.build(dropout=0.2)
        kd.adapters.apply(model, ADAPTERS[adapter]())
        return model

    x, y = architecture.data()
    reason = check(create, x, y, monkeypatch)
    if (name, adapter) == ("vit", "AllBiases"):
        assert "patch_embedding" in reason  # a convolution's
    else:
        assert reason is None


@pytest.mark.once
def test_every_projection_and_regularizers(monkeypatch):
    def create():
        model = TABLE["bert"].build()
        kd.adapters.apply(model, kd.adapters.PiSSA(rank=2))
        return model

    x, y = TABLE["bert"].data()
    for projection in (
        kd.projections.EDGE(q=0.3),
        kd.projections.EDGE(common=False),
        kd.projections.Orthogonal(),
        [kd.projections.EDGE(q=0.7), kd.projections.Subtraction(q=0.2)],
    ):
        reason = check(
            *(create, x, y, monkeypatch),
            projection=projection,
            regularizers=kd.regularizers.ba_lora(k=1),
        )
        assert reason is None


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_plain_networks(policy, weighted, monkeypatch):
    keras.config.set_dtype_policy(policy)
    x, y = rows()
    kwargs = {}
    if weighted:
        kwargs["sample_weight"] = np.linspace(0, 2, len(y)).astype("float32")
    # Rounded in other places at half precision.
    tolerance = 1e-5 if policy == "float32" else 0.03
    reason = check(network, x, y, monkeypatch, tolerance, **kwargs)
    assert reason is None


def test_rows_that_are_certain(monkeypatch):
    """Their gradients are near the smallest numbers there are."""

    def create():
        model = network()
        model.layers[-1].bias.assign([60.0, 0.0, 0.0])
        return model

    x, y = rows()
    assert check(create, x, y, monkeypatch) is None


class _Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0, keepdims=True)


def _with(layer, **kwargs):
    def create():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        x = keras.layers.Dense(7, activation="tanh")(inputs)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(layer()(x)))

    return create, kwargs


def _adapted(adapter):
    def create():
        keras.utils.set_random_seed(0)
        model = network()
        kd.adapters.apply(model, adapter, also_train=[model.layers[-1].name])
        return model

    return create, {}


CASES = {
    "batch statistics": (
        lambda: _with(keras.layers.BatchNormalization),
        "may couple rows",
    ),
    "a layer of one's own": (lambda: _with(_Own), "a layer of your own"),
    "label smoothing": (
        lambda: _with(
            keras.layers.Identity,
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=0.1
            ),
        ),
        "smooths labels",
    ),
    "another loss": (
        lambda: _with(
            keras.layers.Identity,
            loss=keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        ),
        "not",
    ),
    "a penalty of activations": (
        lambda: _with(lambda: keras.layers.ActivityRegularization(l2=0.1)),
        "adds a loss",
    ),
    "rows weighed by their batch": (
        lambda: _with(
            keras.layers.Identity,
            objective=kd.losses.PerRow(kd.losses.GeneralizedCrossEntropy()),
        ),
        "weighs rows",
    ),
    "magnitudes": (
        lambda: _adapted(kd.adapters.DoRA(rank=2, targets="dense*")),
        "no short form",
    ),
    "dropout of factors": (
        lambda: _adapted(
            kd.adapters.LoRA(rank=2, dropout=0.3, targets="dense*")
        ),
        "no short form",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_where_it_does_not_hold_there_are_two(case, monkeypatch):
    make, part_of_reason = CASES[case]
    create, kwargs = make()
    x, y = rows()
    if "loss" in kwargs:
        y = np.eye(CLASSES, dtype="float32")[y]
    reason = check(create, x, y, monkeypatch, **kwargs)
    assert part_of_reason in reason


@pytest.mark.parametrize(
    "adapter",
    [
        kd.adapters.LoRAFA(rank=2, targets="dense*"),
        kd.adapters.VeRA(rank=5, targets="dense*"),
    ],
    ids=["frozen factors", "vectors that scale them"],
)
def test_what_makes_the_factors(adapter, monkeypatch):
    create, _ = _adapted(adapter)
    assert check(create, *rows(), monkeypatch) is None


def test_tokens_take_two(monkeypatch):
    """A token's gradient passes through others: no multiple of a row."""
    architecture = TABLE["llama"]

    def create():
        model = architecture.build()
        kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
        return model

    x, y = architecture.data()
    check(create, x, y, monkeypatch)


@pytest.mark.once
def test_minilm(monkeypatch):
    def create():
        keras.utils.set_random_seed(0)
        classifier = minilm()
        kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
        return classifier

    train = kd.data.generated_nli(8, seed=0)
    assert check(create, train.x, train.y, monkeypatch) is None


class TestRefresh:
    def test_the_ratio_of_an_earlier_step_weighs_the_losses(self):
        """Steps 1 and 4 are exact, 2 and 3 take the ratio of step 1."""
        model = compiled(
            kd.projections.EDGE(alpha=1.5, scope="global", refresh=3)
        )
        x, y = rows()

        def vector(gradients):
            return np.concatenate([g.ravel() for g in gradients])

        for step in range(5):
            weights = [np.array(w) for w in model.model.get_weights()]

            def at(projection):
                start = network()
                start.set_weights(weights)
                return vector(one_step(projection, model=start))

            task, bias = at(None), at(OnlyBias())
            if step % 3 == 0:
                ratio = np.linalg.norm(bias) / np.linalg.norm(task)
            expected = (1 + 1.5 * ratio / 2) * task - 0.75 * bias
            model.train_on_batch(x, y)
            moved = zip(weights, model.model.get_weights())
            found = vector([b - a for b, a in moved])
            np.testing.assert_allclose(found, expected, atol=2e-5)

    def test_it_projects_when_due(self):
        calls = []

        class Counted(kd.projections.EDGE):
            def project(self, gradients, variables):
                calls.append(1)
                return super().project(gradients, variables)

        model = compiled(Counted(scope="global", refresh=3), run_eagerly=True)
        x, y = rows()
        counts = []
        for _ in range(7):
            calls.clear()
            model.train_on_batch(x, y)
            counts.append(len(calls))
        if keras.config.backend() != "jax":
            # There, both branches are traced.
            assert counts == [1, 0, 0, 1, 0, 0, 1]

    def test_an_optimizer_that_was_used_starts_with_a_ratio(self):
        x, y = rows()
        found = []
        for refresh in (1, 100):
            edge = kd.projections.EDGE(2.0, scope="global", refresh=refresh)
            model = compiled(edge)
            model.optimizer.iterations.assign(7)
            before = [np.array(w) for w in model.model.get_weights()]
            model.train_on_batch(x, y)
            after = model.model.get_weights()
            found.append([a - b for a, b in zip(after, before)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)

    def test_an_overflow_leaves_no_ratio(self):
        model = compiled(kd.projections.EDGE(scope="global", refresh=50))
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**127
        )
        model.compile(optimizer, loss=model.loss, metrics=[])
        optimizer.build(model.trainable_variables)
        optimizer.inner_optimizer.iterations.assign(7)
        x, y = rows()
        for _ in range(10):
            model.train_on_batch(x, y, sample_weight=np.full(len(y), 40.0))
            assert np.isfinite(float(model.cached_norm_ratio.value))
        # The scale was halved until a step counted.
        assert int(optimizer.iterations.value) > 7

    @pytest.mark.parametrize("after", part([False, True], period=2))
    def test_regularizers_and_other_projections(self, after, monkeypatch):
        def create():
            model = TABLE["llama"].build()
            kd.adapters.apply(model, kd.adapters.LoRA(rank=2))
            return model

        class Halved(kd.projections.Projection):
            def project(self, gradients, variables):
                return [0.5 * g for g in gradients["task"]]

        found = []
        for refresh in (1, 100):
            edge = kd.projections.EDGE(scope="global", refresh=refresh)
            model = kd.DebiasedModel(
                create(),
                [edge, Halved()] if after else edge,
                regularizers=[kd.regularizers.TopKEntropy(0.1, k=4)],
                seed=0,
            )
            # No step: the second update is the first one again.
            model.compile(
                keras.optimizers.SGD(1e-6),
                loss=TABLE["llama"].loss(),
                metrics=[],
            )
            x, y = TABLE["llama"].data()
            before = [np.array(w) for w in model.model.get_weights()]
            model.train_on_batch(x, y)
            model.optimizer.learning_rate = 1.0
            model.train_on_batch(x, y)
            after_weights = model.model.get_weights()
            found.append([a - b for b, a in zip(before, after_weights)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)

    def test_it_is_saved(self, tmp_path):
        model = compiled(kd.projections.EDGE(scope="global", refresh=5))
        x, y = rows()
        model.train_on_batch(x, y)
        assert float(model.cached_norm_ratio.value) > 0
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for each in (model, loaded):
            each.train_on_batch(x, y)
        for a, b in zip(model.model.get_weights(), loaded.model.get_weights()):
            np.testing.assert_allclose(a, b, atol=1e-6)

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"refresh": 4}, 'scope="global"'),
            ({"refresh": 4, "scope": "global", "common": False}, "common"),
            ({"refresh": 0}, "at least"),
        ],
    )
    def test_what_cannot_be_kept(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            kd.projections.EDGE(**kwargs)

    def test_it_comes_first(self):
        edge = kd.projections.EDGE(scope="global", refresh=4)
        with pytest.raises(ValueError, match="first"):
            kd.DebiasedModel(network(), [kd.projections.TaskOnly(), edge])

    def test_a_refused_list_leaves_the_network_as_it_was(self):
        model = network()
        directions = kd.directions.Directions(
            {model.layers[1].path: np.eye(5)[:, :1]}, readers="dense*"
        )
        edge = kd.projections.EDGE(scope="global", refresh=4)
        subspace = kd.projections.Subspace(directions)
        with pytest.raises(ValueError, match="first"):
            kd.DebiasedModel(model, [subspace, edge])
        assert [v.constraint for v in model.weights] == [None] * 4
        kd.DebiasedModel(model, [edge, subspace])
        assert model.layers[1].kernel.constraint is not None
