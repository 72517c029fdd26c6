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

PACKAGE = str(pathlib.Path(kd.__file__).parent)
GENERATOR = inspect.CO_GENERATOR
# Of all inner calls, evenly spread.
STEPS = 40 if keras.config.backend() == "torch" else 10
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


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("kind", list(ADAPTERS))
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
