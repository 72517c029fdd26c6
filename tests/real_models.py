"""The embedded real models, loaded in half the time."""

import contextlib
import math
from unittest import mock

import keras
import keras_hub
from keras import ops

import keras_debias as kd

# Larger than any layer of a head, which keeps its random start.
LARGE = 200_000
DRAWN = (
    keras.initializers.RandomNormal,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
)


@contextlib.contextmanager
def nothing_drawn():
    """A context in which large layers start with zeros.

    A file replaces them anyway, and to draw 135 million random weights takes
    as long as all the rest.
    """

    def small_only(draw):
        def start(self, shape, dtype=None):
            if math.prod(shape) > LARGE:
                return ops.zeros(shape, dtype)
            return draw(self, shape, dtype)

        return start

    with contextlib.ExitStack() as stack:
        for kind in DRAWN:
            drawn = small_only(kind.__call__)
            stack.enter_context(mock.patch.object(kind, "__call__", drawn))
        yield


def minilm(num_classes=3, length=16, **kwargs):
    """A classifier on MiniLM, whose head alone starts with random weights."""
    with nothing_drawn():
        classifier = keras_hub.models.TextClassifier.from_preset(
            kd.presets.minilm(), num_classes=num_classes, **kwargs
        )
    if classifier.preprocessor is not None:
        classifier.preprocessor.sequence_length = length
    return classifier


def smollm2(**kwargs):
    """SmolLM2-135M, all of whose weights come from its preset."""
    with nothing_drawn():
        return keras_hub.models.CausalLM.from_preset(
            kd.presets.smollm2(), **kwargs
        )
