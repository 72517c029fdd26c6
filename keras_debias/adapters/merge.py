"""Adds the updates to the kernels and removes the adapters."""

import contextlib
import threading
import weakref
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter import initial_assignments
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.attention import output_of
from keras_debias.adapters.constrain import release
from keras_debias.adapters.copies import allow_copies
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.target_layer import shift_before
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.layers.adapted_layer import GATES
from keras_debias.layers.class_swap import original_class
from keras_debias.utils.networks import network_of

# Attributes besides weights that adapters set on layers.
_RECORDS = (
    *("adapters", "initial_values", "moved_weights", "trained_weights"),
    "adapter_parts",
)


def merge(model: keras.Model) -> keras.Model:
    """Merges all adapters into the base weights, in place.

    The result is an ordinary Keras model with the same outputs. It has the
    variables that it had before `apply`, so `save_to_preset` and everything
    else work. All its weights are trainable again, as in a new model. Compile
    again before training it further.

    Args:
        model: an adapted `keras.Model`, or a `DebiasedModel` around one.

    Returns:
        The network itself (for a `DebiasedModel`, its `.model`).

    Raises:
        ValueError: If the model has no adapters (it may have been merged
            already), if they are disabled, if an update is not finite, if
            merging would change the architecture (a bias that was injected and
            has nowhere to go), or if a kernel is quantized (its sum with the
            update would be rounded again). The model is unchanged then.

    Example:

    ```python
    plain = kd.adapters.merge(classifier)
    plain.save_to_preset("./classifier")
    ```
    """
    layers = require_adapters(
        model, "It may have been merged already, or `apply` was never called."
    )
    model = network_of(model)
    paths = layer_paths(model)
    for path, layer in layers.items():
        for adapter in adapters_of(layer):
            _check_state(path, layer, adapter)
            adapter.check_merge(path, layer, paths)
    # Kernels first: a value bias goes through the output projection's.
    steps = [(p, x, a) for p, x in layers.items() for a in adapters_of(x)]
    steps.sort(key=lambda s: "low_rank" not in s[2].exclusive_parts(s[1]))
    with unchanged_on_error(model, _changed_by_merging(layers, paths)):
        for path, layer, adapter in steps:
            adapter.merge(path, layer, paths)
        release(model)
        for layer in (model, *_keras_internals.flatten_layers(model)):
            for variable in _keras_internals.own_trainable_variables(layer):
                variable.trainable = True
            for name in _RECORDS:
                _keras_internals.forget(layer, name)
        allow_copies(model)
        reset_training(model)
    return model


def _changed_by_merging(layers, paths) -> list[keras.Variable]:
    """The base weights that may get an update added."""
    changed = []
    for path, layer in layers.items():
        if original_class(layer) is None:
            # A refine vector is merged into a part of the block before.
            shift = shift_before(path, paths)
            changed += [] if shift is None else [shift]
            continue
        output = output_of(path, paths)
        found = [layer] if output is None else [layer, output[1]]
        for each in [x for x in found if original_class(x)]:
            changed += _keras_internals.base_variables(each).values()
    return list({id(v): v for v in changed}.values())


def _check_state(path, layer, adapter):
    """Raises if an adapter is switched off or not finite."""
    if is_disabled(layer):
        raise ValueError(
            "Expected enabled adapters. Received: "
            f"'{path}' is disabled. Leave `adapters.disabled` first."
        )
    for gate in GATES:
        variable = getattr(layer, gate, None)
        if variable is not None and not float(as_array(variable)):
            raise ValueError(
                "Expected enabled adapters. Received: "
                f"'{path}' is disabled. Leave `adapters.disabled` first."
            )
    for name, variable in adapter.state(layer).items():
        if not np.isfinite(as_array(variable)).all():
            raise ValueError(
                "Expected finite adapter weights. Received: "
                f"'{path}/{name}' holds NaN or infinity. Train again from a "
                "sound state."
            )


@contextlib.contextmanager
def disabled(model: keras.Model):
    """A context in which a model computes what it did before `apply`.

    This needs no second copy of the weights. The updates are multiplied by a
    variable that becomes zero. Base weights and moving statistics that
    training changes get their starting values. So compiled `predict`,
    `evaluate` and `generate` follow at once. The head does not change.
    Contexts may be nested, and used in several threads: the adapters are on
    again when the last context ends.

    Args:
        model: an adapted `keras.Model`, or a `DebiasedModel` around one.

    Returns:
        A context manager, which gives the model.

    Raises:
        ValueError: If the model has no adapters.

    Example:

    ```python
    with kd.adapters.disabled(classifier):
        before = classifier.predict(x)
    ```
    """
    require_adapters(model, "Call `adapters.apply` first.")
    switched = []
    try:
        for layer in layers_to_disable(model):
            _switch_off(layer)
            switched.append(layer)
        yield model
    finally:
        for layer in switched:
            _switch_on(layer)


# How often each layer is disabled now, and its values when that began: two
# threads, or nested contexts, must not restore what is still disabled.
_disabled = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def is_disabled(layer: keras.Layer) -> bool:
    """Whether a layer is inside an `adapters.disabled`."""
    return layer in _disabled


def require_enabled(model: keras.Model) -> None:
    """Raises inside of `adapters.disabled`."""
    for path, layer in layer_paths(network_of(model)).items():
        if is_disabled(layer):
            raise ValueError(
                "Expected enabled adapters. Received: "
                f"'{path}' is disabled, and weights have their pretrained "
                "values. Leave `adapters.disabled` first."
            )


def _switch_off(layer):
    with _lock:
        count, before = _disabled.get(layer, (0, None))
        if not count:
            pairs = disabled_values([layer])
            # Copies: a view would follow the variable.
            before = [(v, np.array(ops.convert_to_numpy(v))) for v, _ in pairs]
            try:
                for variable, value in pairs:
                    variable.assign(value)
            except BaseException:
                _assign_all(before)
                raise
        _disabled[layer] = count + 1, before


def _switch_on(layer):
    with _lock:
        count, before = _disabled.pop(layer)
        if count > 1:
            _disabled[layer] = count - 1, before
        else:
            _assign_all(before)


def _assign_all(pairs):
    for variable, value in pairs:
        variable.assign(value)


def layers_to_disable(model: keras.Model) -> list[keras.Layer]:
    """The adapted layers, and frozen ones whose statistics have moved on."""
    return [
        layer
        for layer in layer_paths(network_of(model)).values()
        if adapters_of(layer) or getattr(layer, "initial_values", {})
    ]


@contextlib.contextmanager
def assigned(changes: list[tuple]):
    """A context in which variables have other values.

    Args:
        changes: `(variable, value)` pairs.
    """
    # Copies: a view would follow the variable.
    before = [np.array(ops.convert_to_numpy(v)) for v, _ in changes]
    try:
        for variable, value in changes:
            variable.assign(value)
        yield
    finally:
        for (variable, _), value in zip(changes, before):
            variable.assign(value)


def disabled_values(layers: Iterable[keras.Layer]) -> list[tuple]:
    """`(variable, value)` pairs that make a model the pretrained one.

    Args:
        layers: its adapted layers, and others whose statistics move.
    """
    pairs = {}
    for layer in layers:
        for adapter in adapters_of(layer):
            for variable, value in adapter.disabled_values(layer):
                pairs[id(variable)] = variable, value
        # Moving means of frozen layers.
        for variable, value in initial_assignments(layer):
            pairs.setdefault(id(variable), (variable, value))
    return list(pairs.values())
