"""Restores a model when a change to it fails half-way."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals


@contextlib.contextmanager
def unchanged_on_error(model: keras.Model, variables=()):
    """A context that leaves a model as it was if anything inside raises.

    Args:
        model: the model whose layers change.
        variables: variables of the model whose values change. Copies of them
            are kept meanwhile.
    """
    restore = _keras_internals.remember(
        [model, *_keras_internals.flatten_layers(model)]
    )
    before = [(v, np.array(ops.convert_to_numpy(v))) for v in variables]
    flags = [(v, v.trainable, v.constraint) for v in model.variables]
    try:
        yield
    except BaseException:
        restore()
        for variable, trainable, constraint in flags:
            variable.trainable = trainable
            variable.constraint = constraint
        for variable, value in before:
            variable.assign(value)
        raise
