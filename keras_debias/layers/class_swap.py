"""Swaps the class of a built layer, and swaps it back."""

import functools

import keras

from keras_debias.layers.bias_update import BiasUpdate
from keras_debias.layers.lora_dense import LoRADense
from keras_debias.layers.lora_einsum_dense import LoRAEinsumDense

_LOW_RANK = {
    keras.layers.Dense: LoRADense,
    keras.layers.EinsumDense: LoRAEinsumDense,
}


def original_class(layer: keras.Layer) -> type | None:
    """`Dense` or `EinsumDense`, whatever adapters a layer has.

    `None` for other layers, and for subclasses that override `call`.
    """
    if getattr(type(layer), "is_swapped", False) or type(layer) in _LOW_RANK:
        return next(c for c in type(layer).__mro__ if c in _LOW_RANK)
    return None


@functools.cache
def class_with_updates(
    plain: type[keras.Layer], low_rank: bool, bias: bool
) -> type:
    """The class for a `Dense` or `EinsumDense` layer with such adapters.

    It has the name, the module and the config of the plain class. Keras saves
    layers by the name of their class, and a model that is rebuilt from its
    config is the plain model, to which adapters are applied again.
    """
    if not (low_rank or bias):
        return plain
    bases = (_LOW_RANK[plain] if low_rank else plain,)
    if bias:
        bases = (BiasUpdate, *bases)
    return type(
        plain.__name__,
        bases,
        {
            "__module__": "keras.layers",
            "get_config": plain.get_config,
            "from_config": classmethod(_refuse_copy),
            "is_swapped": True,
        },
    )


def _refuse_copy(cls, config):
    """In place of `from_config`: Keras finds the plain class by its name."""
    raise ValueError(
        "Expected a layer without adapters to clone. Received: "
        f"'{config.get('name')}', which has some that its config does not "
        "hold. Build the model anew and apply or load the adapters, copy the "
        "`DebiasedModel` around it, or `adapters.merge` it first."
    )
