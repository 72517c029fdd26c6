"""Copies of adapted models, which Keras would make without the adapters."""

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of


def _refuse(protocol):
    raise TypeError(
        "Expected a model without adapters to copy or pickle: Keras builds "
        "the copy from its config, which has no adapters. Save with "
        "`adapters.save` and load onto a fresh base, copy the "
        "`DebiasedModel` around the network, or `adapters.merge` it first."
    )


def refuse_copies(model: keras.Model) -> None:
    """Makes `copy.deepcopy` and `pickle` of an adapted model raise.

    Both ask the object itself for its parts. Set on every model that
    contains adapted layers.
    """
    for each in (model, *_keras_internals.flatten_layers(model)):
        if isinstance(each, keras.Model) and _is_adapted(each):
            each.__dict__["__reduce_ex__"] = _refuse


def allow_copies(model: keras.Model) -> None:
    """Undoes `refuse_copies`."""
    for each in (model, *_keras_internals.flatten_layers(model)):
        each.__dict__.pop("__reduce_ex__", None)


def _is_adapted(model) -> bool:
    layers = _keras_internals.flatten_layers(model)
    return any(adapters_of(layer) for layer in layers)
