"""Adds a refine vector to the input of a block, and removes it."""

import functools

import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.block_update import BlockUpdate
from keras_debias.layers.block_update import in_place_block


class RefinedBlock(BlockUpdate):
    """Adds a trained vector to the hidden states that enter a layer.

    A mixin for blocks such as `TransformerDecoder`. The hidden states must be
    the first argument of `call`. The vector is kept in float32 and starts at
    zero.
    """

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
        """Removes the vector; the caller restores the class."""
        _keras_internals.remove_weight(self, self.refine)
        _keras_internals.forget(self, "refine")

    def adapter_state(self):
        return {"refine": self.refine}

    def reset_updates(self):
        self.refine.assign(np.zeros(self.refine.shape, "float32"))


@functools.cache
def refined_class(plain: type) -> type:
    """The class of a block with a refine vector."""
    return in_place_block(plain, RefinedBlock)
