"""Calls that fail at any inner step leave the model as it was."""

import inspect
import pathlib
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import variable_paths
from tests.combinations import spread

PACKAGE = str(pathlib.Path(kd.__file__).parent)
GENERATOR = inspect.CO_GENERATOR
# Of all inner calls, evenly spread.
STEPS = 40
ROWS = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
A = kd.adapters


class Injected(Exception):
    """Raised in place of an inner call."""


def run(call, fail_at=None):
    """Runs a call; the number of inner calls of the package that began."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        code = frame.f_code
        # What a generator raises while it is cleared away reaches nobody.
        ours = code.co_filename.startswith(PACKAGE)
        if event == "call" and ours and not code.co_flags & GENERATOR:
            count += 1
            if count == fail_at:
                raise Injected
        return None

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def build(adapter=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="hidden")(inputs)
    x = keras.layers.Dense(8, name="other")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    if adapter is not None:
        A.apply(model, adapter, also_train="head")
        for layer in (model.get_layer("hidden"), model.get_layer("other")):
            for name, variable in layer.adapter_state().items():
                noise = np.random.default_rng(len(name))
                variable.assign(noise.normal(size=variable.shape))
    return model


def state(model):
    """Types, values and what trains, of all layers and weights."""
    return (
        [type(layer) for layer in model._flatten_layers()],
        {
            path: (v.trainable, ops.convert_to_numpy(v).tobytes())
            for path, v in variable_paths(model).items()
        },
        ops.convert_to_numpy(model(ROWS)).tobytes(),
    )


TARGETS = ("hidden", "other")
ADAPTERS = {
    "LoRA": lambda: A.LoRA(2, targets=TARGETS),
    "PiSSA": lambda: A.PiSSA(2, targets=TARGETS),
    "DoRA": lambda: A.DoRA(2, targets=TARGETS),
}
# Name -> (a model, the call on it).
CALLS = {
    "apply": lambda make, folder: (
        build(),
        lambda model: A.apply(model, make(), also_train="head"),
    ),
    "merge": lambda make, folder: (build(make()), A.merge),
    "load": lambda make, folder: (
        build(),
        lambda model: A.load(model, folder),
    ),
}


@pytest.mark.parametrize(("kind", "name"), spread(ADAPTERS, CALLS))
def test_a_failure_at_any_step_changes_nothing(kind, name, tmp_path):
    make = ADAPTERS[kind]
    A.save(build(make()), tmp_path / "adapter")
    for _ in range(2):  # the first fills caches
        model, call = CALLS[name](make, tmp_path / "adapter")
        total = run(lambda: call(model))
    assert total > 10
    changed = []
    steps = np.unique(np.linspace(1, total, STEPS).astype(int))
    for step in steps.tolist():
        model, call = CALLS[name](make, tmp_path / "adapter")
        before = state(model)
        with pytest.raises((Injected, ValueError)):
            run(lambda: call(model), fail_at=step)
        if state(model) != before:
            changed.append(step)
    assert not changed, f"half changed after {changed} of {total} calls"


def folder_state(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def trained(seed):
    model = build(A.LoRA(2, targets=TARGETS))
    debiased = kd.DebiasedModel(model, kd.projections.EDGE(0.5), seed=0)
    debiased.compile(
        keras.optimizers.Adam(0.05 * (seed + 1)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    labels = (ROWS[:, 0] > 0).astype("int32")
    debiased.fit(ROWS, labels, batch_size=4, epochs=1, verbose=0)
    return debiased


@pytest.mark.parametrize("what", ["adapter", "PEFT"])
def test_a_failed_save_leaves_the_old_folder_or_the_new_one(what, tmp_path):
    old, new = (build(A.LoRA(rank, targets=TARGETS)) for rank in (2, 3))
    folders = tmp_path / "old", tmp_path / "new", tmp_path / "both"
    if what == "PEFT":
        pytest.importorskip("peft")
        from tests.architectures import ARCHITECTURES

        bert = next(a for a in ARCHITECTURES if a.name == "bert")
        old, new = bert.build(), bert.build()
        A.apply(old, A.LoRA(2))
        A.apply(new, A.LoRA(3))
    write = A.save if what == "adapter" else A.export_peft
    write(old, folders[0])
    write(new, folders[1])
    before, after = map(folder_state, folders[:2])
    write(old, folders[2])
    total = run(lambda: write(new, folders[2], overwrite=True))
    for step in np.unique(np.linspace(1, total, STEPS).astype(int)).tolist():
        write(old, folders[2], overwrite=True)
        with pytest.raises((Injected, ValueError)):
            run(lambda: write(new, folders[2], overwrite=True), fail_at=step)
        assert folder_state(folders[2]) in (before, after), step
    # Nothing is left beside it.
    assert sorted(tmp_path.iterdir()) == sorted(folders)


def test_weights_are_loaded_to_the_end_or_not_at_all(tmp_path):
    path = tmp_path / "model.weights.h5"
    trained(1).save_weights(path)
    model = trained(0)
    variables = [*model.variables, *model.optimizer.variables]
    start = [np.array(ops.convert_to_numpy(v)) for v in variables]

    def values():
        return [ops.convert_to_numpy(v).tobytes() for v in variables]

    before = values()
    total = run(lambda: model.load_weights(path))
    after = values()
    assert after != before
    half = []
    for step in np.unique(np.linspace(1, total, STEPS).astype(int)).tolist():
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        wanted = after  # Keras tries a layer again that it meets twice
        try:
            run(lambda: model.load_weights(path), fail_at=step)
        except (Injected, ValueError):
            wanted = before
        if values() != wanted:
            half.append(step)
    assert not half, f"half loaded after {half} of {total} calls"
