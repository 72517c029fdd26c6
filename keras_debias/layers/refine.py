"""Adds a trained vector to the input of a block, and removes it."""

import functools

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer


class Refine(AdaptedLayer):
    """Adds a trained vector to the hidden states that enter a layer.

    A mixin for blocks such as `TransformerDecoder`. The hidden states must be
    the first argument of their `call`; the others do not matter. The vector
    is stored in float32 and starts at zero.
    """

    @property
    def base_bias(self):
        return None

    def call(self, *args, **kwargs):
        if args:
            return super().call(self.refined(args[0]), *args[1:], **kwargs)
        name = next(iter(kwargs))
        kwargs[name] = self.refined(kwargs[name])
        return super().call(**kwargs)

    def refined(self, hidden_states):
        refined = hidden_states + ops.cast(
            self.refine.value, hidden_states.dtype
        )
        mask = _keras_internals.get_keras_mask(hidden_states)
        if mask is not None:
            _keras_internals.set_keras_mask(refined, mask)
        return refined

    def add_refine(self, width):
        """Adds the vector to the built layer."""
        self.refine = self.add_weight(
            name="refine",
            shape=(width,),
            initializer="zeros",
            dtype="float32",
            autocast=False,
        )
        self.refine.trainable = True

    def remove_refine(self):
        """Removes the vector. The caller swaps the class back."""
        _keras_internals.remove_weight(self, self.refine)
        self.__dict__.pop("refine", None)

    def adapter_state(self):
        return {"refine": self.refine}

    def reset_updates(self):
        self.refine.assign(np.zeros(self.refine.shape, "float32"))

    def _own(self):
        own = _keras_internals.own_trainable_variables(self)
        own += _keras_internals.own_non_trainable_variables(self)
        own = [v for v in own if v is not self.refine]
        return {str(index): variable for index, variable in enumerate(own)}

    def save_own_variables(self, store):
        separately, self._save_separately = self._save_separately, False
        for name, variable in self._own().items():
            store[name] = variable
        if separately:
            store["refine"] = self.refine
        elif np.any(ops.convert_to_numpy(self.refine.value)):
            raise ValueError(
                "Expected weights that fit the layer without adapters. "
                f"Received: '{self.name}' with a refine vector. Save the "
                "adapter with `adapters.save`, or save the `DebiasedModel` "
                "around the network."
            )

    def load_own_variables(self, store):
        targets = self._own()
        separate = "refine" in store
        if separate:
            targets["refine"] = self.refine
        if set(store.keys()) != set(targets):
            raise ValueError(
                f"Layer '{self.name}' expected the variables "
                f"{list(targets)}. Received: {sorted(store.keys())}."
            )
        for name, variable in targets.items():
            variable.assign(store[name])
        if not separate:
            self.reset_updates()


@functools.cache
def refined_class(plain: type) -> type:
    """The class of a block with a refine vector.

    It has the name, module and config of the plain class; see
    `class_with_updates`.
    """
    return type(
        plain.__name__,
        (Refine, plain),
        {"__module__": plain.__module__, "plain_block": plain},
    )


def plain_block_class(layer: keras.Layer) -> type:
    """The class that a block had before it was refined."""
    return getattr(type(layer), "plain_block", type(layer))
