"""The embedded real models, loaded in half the time."""

import contextlib
from unittest import mock

import keras
import keras_hub
from keras import ops

import keras_debias as kd

DRAWN = (
    keras.initializers.RandomNormal,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
)


@contextlib.contextmanager
def nothing_drawn():
    """A context in which layers start with zeros, in place of random weights.

    A file replaces the weights anyway, and to draw 135 million takes as long
    as all the rest.
    """

    def zeros(self, shape, dtype=None):
        return ops.zeros(shape, dtype)

    with contextlib.ExitStack() as stack:
        for kind in DRAWN:
            stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield


def smollm2(**kwargs):
    """SmolLM2-135M, all of whose weights come from its preset."""
    with nothing_drawn():
        return keras_hub.models.CausalLM.from_preset(
            kd.presets.smollm2(), **kwargs
        )
