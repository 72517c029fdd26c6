"""Adds the updates into the kernels and takes the adapters away."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.apply import reset_training
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
            already), if they are disabled, or if an update is not finite.
            The model is unchanged then.

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
    for path, layer in layers.items():
        if not float(ops.convert_to_numpy(layer.lora_gate)):
            raise ValueError(
                "Expected enabled adapters. Received: "
                f"'{path}' is disabled. Leave `adapters.disabled` first."
            )
        for variable in (layer.lora_a, layer.lora_b):
            if not np.isfinite(ops.convert_to_numpy(variable)).all():
                raise ValueError(
                    "Expected finite adapter weights. Received: "
                    f"'{path}/{variable.name}' holds NaN or infinity. "
                    "Train again from a sound state."
                )
    for layer in layers.values():
        layer.kernel.assign(layer.merged_kernel())
        plain = next(
            c
            for c in type(layer).__mro__
            if c in (keras.layers.Dense, keras.layers.EinsumDense)
        )
        layer.remove_low_rank()
        layer.__class__ = plain
    for layer in (model, *_keras_internals.flatten_layers(model)):
        for variable in _keras_internals.created_trainable(layer):
            variable.trainable = True
    reset_training(model)
    return model


@contextlib.contextmanager
def disabled(model: keras.Model):
    """A context in which a model computes what it did before `apply`.

    The pretrained weights without a second copy: the updates are multiplied
    by a variable that becomes zero, so that compiled `predict`, `evaluate`
    and `generate` follow at once. The head stays as it is now.

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
    require_adapters(model, "Call `adapters.apply` first.")
    changes = disabled_values(model)
    # Copies: a view would follow the variable.
    before = [np.array(ops.convert_to_numpy(v)) for v, _ in changes]
    try:
        for variable, value in changes:
            variable.assign(value)
        yield model
    finally:
        for (variable, _), value in zip(changes, before):
            variable.assign(value)


def disabled_values(model: keras.Model) -> list[tuple]:
    """`(variable, value)` pairs that make a model the pretrained one.

    Args:
        model: a `keras.Model`, or a `DebiasedModel` around one.
    """
    return [(layer.lora_gate, 0.0) for layer in adapted_layers(model).values()]
