"""Whatever training can move is saved, restored by `disabled`, or refused."""

import copy
import pickle
import threading

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import variable_paths

ROWS = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
LABELS = (ROWS[:, 0] > 0).astype("int32") + (ROWS[:, 1] > 0)


def build(normalized=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(16, name="hidden")(inputs)
    if normalized:
        x = keras.layers.BatchNormalization(name="norm", momentum=0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def adapted(adapter=None, **kwargs):
    adapter = adapter or kd.adapters.LoRA(2, targets="hidden")
    return kd.adapters.apply(build(**kwargs), adapter, also_train="head")


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(model, epochs=2):
    debiased = kd.DebiasedModel(model, seed=0)
    debiased.compile(keras.optimizers.Adam(0.05), loss())
    debiased.fit(ROWS, LABELS, epochs=epochs, verbose=0)
    return debiased


def outputs(model):
    return ops.convert_to_numpy(model(ROWS, training=False))


def values(model):
    return {
        path: np.array(ops.convert_to_numpy(v))
        for path, v in variable_paths(model).items()
    }


def same(first, second):
    assert list(first) == list(second)
    for path in first:
        np.testing.assert_array_equal(first[path], second[path], path)


# All dense layers but the head.


def classifier(seed):
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=24,
        max_sequence_length=8,
    )
    keras.utils.set_random_seed(seed)
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=3, preprocessor=None
    )


@pytest.mark.parametrize(
    "targets", [kd.adapters.ALL_LINEAR, lambda layer: True], ids=["*", "call"]
)
def test_all_linear_leaves_the_random_head_whole(targets, tmp_path):
    model = classifier(1)
    kd.adapters.apply(model, kd.adapters.LoRA(2, targets=targets))
    head = [v.path for v in model.trainable_variables if "logits" in v.path]
    assert head == ["logits/kernel", "logits/bias"]
    assert sum("lora_a" in v.path for v in model.trainable_variables) == 7
    kd.adapters.save(model, tmp_path / "a")
    # Another random head: the trained one comes with the folder.
    other = kd.adapters.load(classifier(2), tmp_path / "a")
    same(values(other), values(model))


def test_a_head_named_among_the_targets_is_refused():
    model = classifier(1)
    names = list(variable_paths(model))
    with pytest.raises(ValueError, match="layers that train whole"):
        kd.adapters.apply(
            model, kd.adapters.LoRA(2, targets=("query", "logits"))
        )
    assert list(variable_paths(model)) == names


# Files of the bare model.

ADAPTERS = {
    "LoRA": lambda: kd.adapters.LoRA(2, targets="hidden"),
    "trained bias": lambda: kd.adapters.LoRA(
        2, targets="hidden", train_bias=True
    ),
    "PiSSA": lambda: kd.adapters.PiSSA(2, targets="hidden"),
    "DoRA": lambda: kd.adapters.DoRA(2, targets="hidden"),
    "AllBiases": lambda: kd.adapters.AllBiases(),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_checkpoint_of_the_bare_model_is_exact(name, tmp_path):
    model = adapted(ADAPTERS[name]())
    base = outputs(model)
    model.compile(keras.optimizers.Adam(0.05), loss())
    model.fit(ROWS, LABELS, epochs=2, verbose=0)
    expected = values(model)
    model.save_weights(tmp_path / "best.weights.h5")
    model.fit(ROWS, LABELS, epochs=2, verbose=0)
    for other in (model, adapted(ADAPTERS[name]())):
        other.load_weights(tmp_path / "best.weights.h5")
        same(values(other), expected)
        with kd.adapters.disabled(other):
            trained_head = keras.Sequential([other.layers[-1]])
            hidden = build().layers[1](ROWS)
            np.testing.assert_allclose(
                outputs(other),
                ops.convert_to_numpy(trained_head(hidden)),
                atol=1e-5,
            )
    kd.adapters.save(model, tmp_path / "a")
    again = kd.adapters.load(build(), tmp_path / "a")
    np.testing.assert_allclose(outputs(again), outputs(model), atol=1e-5)
    # A plain model gets the sum, as before.
    plain = build()
    plain.load_weights(tmp_path / "best.weights.h5", skip_mismatch=False)
    np.testing.assert_allclose(outputs(plain), outputs(other), atol=1e-5)
    assert np.abs(base - outputs(plain)).max() > 0.01


def test_a_checkpoint_beside_another_base_is_the_sum_and_not_saved(tmp_path):
    model = adapted()
    model.layers[1].lora_b.assign(np.ones((2, 16)))
    model.save_weights(tmp_path / "m.weights.h5")
    other = adapted()
    other.layers[1].kernel.assign(2 * other.layers[1].kernel)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(outputs(other), outputs(model), atol=1e-5)
    with pytest.raises(ValueError, match="have not trained beside"):
        kd.adapters.save(other, tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["m.weights.h5"]


# Quantized, frozen and unfrozen since.


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_what_was_quantized_after_training_is_not_saved(tmp_path):
    model = adapted()
    train(model)
    model.quantize("int8")
    with pytest.raises(ValueError, match="'head', quantized to int8 after"):
        kd.adapters.save(model, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_frozen_model_is_saved_with_its_head(tmp_path):
    model = adapted()
    train(model)
    kd.adapters.save(model, tmp_path / "a")
    frozen = kd.adapters.load(build(), tmp_path / "a")
    assert not frozen.trainable_variables
    kd.adapters.save(frozen, tmp_path / "b")
    again = kd.adapters.load(build(), tmp_path / "b", trainable=True)
    same(values(again), values(model))
    assert [v.path for v in again.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]


def nested():
    inputs = keras.Input((6,))
    body = keras.Model(
        inputs, keras.layers.Dense(16, name="hidden")(inputs), name="body"
    )
    model = keras.Model(
        inputs, keras.layers.Dense(3, name="head")(body(inputs))
    )
    return kd.adapters.apply(
        model, kd.adapters.LoRA(2, targets="hidden"), also_train="head"
    )


@pytest.mark.parametrize(
    ("flag", "named"),
    [(True, "hidden/kernel trains"), (False, "lora_a is frozen")],
)
def test_trainable_set_since_is_named(flag, named):
    model = nested()
    body = model.get_layer("body")
    body.trainable = flag
    if flag and not body.get_layer("hidden").kernel.trainable:
        # Keras on tensorflow leaves variables that are frozen one by one.
        train(model, epochs=1)
        return
    with pytest.warns(UserWarning, match=named):
        train(model, epochs=1)


def test_a_base_that_was_unfrozen_and_trained_is_not_saved(tmp_path):
    model = nested()
    kernel = model.get_layer("body").get_layer("hidden").kernel
    kernel.trainable = True
    with pytest.warns(UserWarning, match="hidden/kernel trains"):
        train(model, epochs=1)
    kernel.trainable = False
    with pytest.raises(ValueError, match="unfrozen since"):
        kd.adapters.save(model, tmp_path / "a")
    assert not list(tmp_path.iterdir())


# Moving statistics of frozen layers.


def test_moving_statistics_are_saved_and_switched_off(tmp_path):
    model = adapted(normalized=True)
    start = values(model)
    debiased = train(model)
    moved = values(model)
    assert np.abs(moved["norm/moving_mean"] - start["norm/moving_mean"]).max()
    kd.adapters.save(model, tmp_path / "a")
    loaded = kd.adapters.load(build(normalized=True), tmp_path / "a")
    same(values(loaded), moved)
    debiased.save(tmp_path / "m.keras")
    whole = keras.saving.load_model(tmp_path / "m.keras")
    for each in (model, loaded, whole.model):
        with kd.adapters.disabled(each):
            off = values(each)
            np.testing.assert_array_equal(
                off["norm/moving_mean"], start["norm/moving_mean"]
            )
            np.testing.assert_array_equal(
                off["norm/moving_variance"], start["norm/moving_variance"]
            )
        same(values(each), moved)


# Copies.


def test_copies_are_refused_and_those_of_a_debiased_model_whole():
    model = adapted()
    debiased = train(model)
    for copied in (
        lambda: copy.deepcopy(model),
        lambda: pickle.dumps(model),
        lambda: copy.copy(model),
    ):
        with pytest.raises(TypeError, match="`adapters.save`"):
            copied()
    with pytest.raises(ValueError, match="adapters.merge"):
        keras.models.clone_model(model)
    twin = copy.deepcopy(debiased)
    same(values(twin.model), values(model))
    assert len(twin.trainable_variables) == len(debiased.trainable_variables)
    merged = kd.adapters.merge(model)
    np.testing.assert_allclose(
        outputs(copy.deepcopy(merged)), outputs(merged), atol=1e-6
    )
    assert keras.models.clone_model(merged).built


# Adapters that are off.


def test_nothing_is_written_while_adapters_are_off(tmp_path):
    model = adapted(kd.adapters.AllBiases())
    debiased = train(model)
    path = tmp_path / "m.keras"
    debiased.save(path)
    before = path.read_bytes()
    with kd.adapters.disabled(model):
        for write in (
            lambda: kd.adapters.save(model, tmp_path / "a"),
            lambda: debiased.save(path),
            lambda: debiased.save_weights(tmp_path / "m.weights.h5"),
            lambda: kd.adapters.merge(model),
        ):
            with pytest.raises(ValueError, match="Leave `adapters.disabled`"):
                write()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_contexts_in_each_other_and_in_two_threads():
    model = adapted()
    train(model)
    on = values(model)
    with kd.adapters.disabled(model):
        off = values(model)
        with kd.adapters.disabled(model):
            same(values(model), off)
        same(values(model), off)
    same(values(model), on)

    # The first to come is the first to leave.
    entered, leave = threading.Event(), threading.Event()

    def second():
        with kd.adapters.disabled(model):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=second)
    with kd.adapters.disabled(model):
        thread.start()
        assert entered.wait(30)
    same(values(model), off)
    leave.set()
    thread.join()
    same(values(model), on)


# Several models around one network.


def directions():
    vectors = np.eye(6, dtype="float32")[:, :1]
    return kd.Directions(vectors, readers=("hidden",), writers=())


def test_a_second_model_does_not_free_a_subspace_in_silence():
    network = adapted()
    first = kd.DebiasedModel(network, kd.projections.Subspace(directions()))
    first.compile("sgd", loss())
    with pytest.warns(UserWarning, match="constrained 1 weights"):
        second = kd.DebiasedModel(network)
    with pytest.raises(ValueError, match="has taken them"):
        first.fit(ROWS, LABELS, verbose=0)
    second.compile("sgd", loss())
    second.fit(ROWS, LABELS, verbose=0)


def test_two_models_around_one_network_share_its_weights():
    network = adapted()
    first, second = kd.DebiasedModel(network), kd.DebiasedModel(network)
    for each in (first, second, first):
        each.compile("sgd", loss())
        each.fit(ROWS, LABELS, verbose=0)
        np.testing.assert_array_equal(
            first.predict(ROWS, verbose=0), second.predict(ROWS, verbose=0)
        )
    with pytest.raises(TypeError, match="Pass its `.model`"):
        kd.DebiasedModel(first)


# A change that fails half-way.


def failing_at(monkeypatch, owner, name, number):
    """Makes the `number`-th call of a method raise, from 1."""
    original, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(None)
        if len(calls) == number:
            raise MemoryError("injected")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def structure(model):
    return [
        (type(x), sorted(v.path for v in x.variables))
        for x in model._flatten_layers()
    ]


INJECTED = [
    ("apply", "add_weight", keras.layers.Layer, 3),
    ("load", "add_weight", keras.layers.Layer, 2),
    ("load", "assign", keras.Variable, 2),
    ("load", "assign", keras.Variable, 4),
    ("merge", "assign", keras.Variable, 1),
    ("merge", "assign", keras.Variable, 2),
]


@pytest.mark.once
@pytest.mark.parametrize(("action", "name", "owner", "number"), INJECTED)
def test_a_failure_half_way_changes_nothing(
    action, name, owner, number, tmp_path, monkeypatch
):
    adapters = [
        kd.adapters.PiSSA(2, targets="hidden"),
        kd.adapters.LoRA(2, targets="more"),
    ]

    def two():
        model = build()
        x = keras.layers.Dense(16, name="more")(model.layers[1].output)
        return keras.Model(model.input, model.layers[-1](x))

    model = two()
    kd.adapters.apply(model, adapters, also_train="head")
    train(model)
    kd.adapters.save(model, tmp_path / "a")
    if action != "merge":
        model = two()
    acts = {
        "apply": lambda: kd.adapters.apply(model, adapters, also_train="head"),
        "load": lambda: kd.adapters.load(model, tmp_path / "a", trainable=True),
        "merge": lambda: kd.adapters.merge(model),
    }
    before, layers = values(model), structure(model)
    flags = [v.trainable for v in model.variables]
    expected = outputs(model)
    with monkeypatch.context() as patch:
        failing_at(patch, owner, name, number)
        with pytest.raises(MemoryError):
            acts[action]()
    same(values(model), before)
    assert structure(model) == layers
    assert [v.trainable for v in model.variables] == flags
    np.testing.assert_array_equal(outputs(model), expected)
    # And it works when nothing fails.
    acts[action]()
    train(model, epochs=1)
