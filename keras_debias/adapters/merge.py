"""Adds the updates into the kernels and takes the adapters away."""

import contextlib
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.constrain import release
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import unwrap


def merge(model: keras.Model) -> keras.Model:
    """Merges all adapters into the base weights, in place.

    What is left is an ordinary Keras model with the same outputs and the
    weights it had before `apply`: no extra variables, `save_to_preset` and
    everything else work. All its weights are trainable again, as in a model
    just built. Compile again before training it further.

    Args:
        model: an adapted `keras.Model`, or a `DebiasedModel` around one.

    Returns:
        The network itself (for a `DebiasedModel`, its `.model`).

    Raises:
        ValueError: If the model has no adapters (it may have been merged
            already), if they are disabled, if an update is not finite, if
            merging would change the architecture (a bias that was injected
            and has nowhere to go), or if a kernel is quantised (its sum with
            the update would be rounded anew). The model is unchanged then.

    Example:

    ```python
    plain = kd.adapters.merge(classifier)
    plain.save_to_preset("./classifier")
    ```
    """
    layers = require_adapters(
        model, "It may have been merged already, or `apply` was never called."
    )
    model = unwrap(model)
    paths = layer_paths(model)
    for path, layer in layers.items():
        for adapter in adapters_of(layer):
            _check_state(path, layer, adapter)
            adapter.check_merge(path, layer, paths)
    # Kernels first: a value bias goes through the output projection's.
    steps = [(p, x, a) for p, x in layers.items() for a in adapters_of(x)]
    steps.sort(key=lambda step: "low_rank" not in step[2].claims(step[1]))
    for path, layer, adapter in steps:
        adapter.merge(path, layer, paths)
    release(model)
    for layer in (model, *_keras_internals.flatten_layers(model)):
        for variable in _keras_internals.created_trainable(layer):
            variable.trainable = True
    reset_training(model)
    return model


def _check_state(path, layer, adapter):
    """Raises if an adapter is switched off or not finite."""
    for gate in ("lora_gate", "bias_gate"):
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

    The pretrained weights without a second copy: the updates are multiplied
    by a variable that becomes zero, and base weights that train get their
    starting values, so that compiled `predict`, `evaluate` and `generate`
    follow at once. The head stays as it is now.

    Args:
        model: an adapted `keras.Model`, or a `DebiasedModel` around one.

    Raises:
        ValueError: If the model has no adapters.

    Example:

    ```python
    with kd.adapters.disabled(classifier):
        before = classifier.predict(x)
    ```
    """
    layers = require_adapters(model, "Call `adapters.apply` first.")
    with assigned(disabled_values(layers.values())):
        yield model


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
        layers: its adapted layers.
    """
    return [
        pair
        for layer in layers
        for adapter in adapters_of(layer)
        for pair in adapter.disabled_values(layer)
    ]
