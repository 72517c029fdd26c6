"""Swaps the class of a built layer, and swaps it back."""

import functools

import keras

from keras_debias import _keras_internals
from keras_debias.layers.bias_update import BiasUpdate
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.layers.low_rank_layers import LOW_RANK_CLASSES
from keras_debias.layers.stand_alone import StandAlone
from keras_debias.layers.transformed_layer import TransformedLayer


def original_class(layer: keras.Layer) -> type | None:
    """The class of a layer without adapters, `Dense` or `EinsumDense`.

    `None` for other layers, and for subclasses that override `call`.
    """
    kind = type(layer)
    known = getattr(kind, "is_swapped", False) or kind in LOW_RANK_CLASSES
    if known or (
        issubclass(kind, StandAlone) and kind.call is LowRankUpdate.call
    ):
        return next(c for c in kind.__mro__ if c in LOW_RANK_CLASSES)
    return None


def adapted_class(layer: keras.Layer, low_rank: bool, bias: bool) -> type:
    """The class for a layer with such adapters.

    A layer from `kd.layers` keeps its class while it has its low-rank update.
    """
    own: type | None = next(
        (
            c
            for c in type(layer).__mro__
            if issubclass(c, StandAlone) and not vars(c).get("is_swapped")
        ),
        None,
    )
    if own is None or not low_rank:
        return class_with_updates(original_class(layer), low_rank, bias)
    return _mixed(own, (BiasUpdate, own)) if bias else own


@functools.cache
def class_with_updates(plain: type, low_rank: bool, bias: bool) -> type:
    """The class for a `Dense` or `EinsumDense` layer with such adapters.

    It has the name, the module and the config of the plain class. Keras saves
    layers by the name of their class, and a model that is rebuilt from its
    config is the plain model, to which adapters are applied again.
    """
    if not (low_rank or bias):
        return plain
    bases = (LOW_RANK_CLASSES[plain] if low_rank else plain,)
    if bias:
        bases = (BiasUpdate, *bases)
    return _mixed(plain, bases)


@functools.cache
def transformed_class(plain: type) -> type:
    """The class for a layer with a `Transform`; see `class_with_updates`."""

    def get_config(self):
        # `activation` also applies the transform.
        bare = object.__new__(plain)
        bare.__dict__.update(self.__dict__)
        return bare.get_config()

    return _mixed(plain, (TransformedLayer, plain), get_config)


@functools.cache
def _mixed(plain, bases, get_config=None):
    stands_alone = issubclass(plain, StandAlone)
    mixed = type(
        plain.__name__,
        bases,
        {
            "__module__": plain.__module__ if stands_alone else "keras.layers",
            "get_config": get_config or plain.get_config,
            "from_config": classmethod(_refuse_copy),
            "is_swapped": True,
        },
    )
    if stands_alone:
        _keras_internals.register_as(mixed, plain)
    return mixed


def _refuse_copy(cls, config):
    """Replaces `from_config`: Keras finds the plain class by its name."""
    raise ValueError(
        "Expected a layer without adapters to clone. Received: "
        f"'{config.get('name')}', whose adapters are not in its config. Build "
        "the model again and apply or load the adapters, copy the "
        "`DebiasedModel` around it, or `adapters.merge` it first."
    )
