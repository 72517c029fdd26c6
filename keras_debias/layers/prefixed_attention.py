"""An attention layer that attends to trained keys and values as well."""

import functools

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.block_update import BlockUpdate
from keras_debias.layers.block_update import in_place_block


class PrefixedAttention(_keras_internals.AttendsToMore, BlockUpdate):
    """Every query attends to a prefix of keys and values, then to the rest.

    A mixin for attention layers. The prefix has no positions, is outside of
    caches and of sliding windows, and is kept in float32.
    """

    @property
    def count(self):
        return int(self.prefix_key.shape[0])

    def more(self, query, key, value, attention_mask):
        return attend_to_prefix(
            self.prefix_key.value[None],
            self.prefix_value.value[None],
            self.prefix_gate.value,
            key,
            value,
            attention_mask,
            query,
        )

    def add_prefix(self, shapes, initializer):
        """Adds the weights to the built layer.

        Args:
            shapes: dict from the name of a weight to its shape, `(length,
                heads, size)`.
            initializer: what they start from.
        """
        for name, shape in shapes.items():
            setattr(self, name, self._add_part(name, shape, initializer))
        # A variable: compiled functions see it change.
        self.prefix_gate = self._add_part("prefix_gate", (), "ones", False)

    def _add_part(self, name, shape, initializer, trainable=True):
        variable = self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype="float32",
            autocast=False,
            trainable=trainable,
        )
        variable.trainable = trainable
        return variable

    def adapter_state(self):
        return {
            name: getattr(self, name) for name in ("prefix_key", "prefix_value")
        }

    def adapter_variables(self):
        return [*super().adapter_variables(), self.prefix_gate]

    def has_update(self):
        # Keys of zeros receive attention as well.
        return True

    def reset_updates(self):
        raise ValueError(
            "Expected a file with the prefix. Received: one without, for "
            f"'{self.name}', which has one that cannot be made nothing. Load "
            "it into a model without the adapter, and apply it there."
        )


@functools.cache
def prefixed_class(plain: type) -> type:
    """The class of an attention layer with a prefix."""
    return in_place_block(plain, PrefixedAttention)


def can_take_prefix(layer: keras.Layer) -> bool:
    """Whether an attention layer computes attention as Keras' own does."""
    return _keras_internals.attention_arguments(type(layer)) is not None


def attend_to_prefix(
    prefix_key, prefix_value, gate, key, value, attention_mask, query
) -> tuple:
    """Puts a prefix before the keys, values and mask of an attention.

    Args:
        prefix_key: tensor of shape `(1, length, heads, size)`.
        prefix_value: tensor of the same shape.
        gate: scalar tensor. Whether queries attend to the prefix.
        key: tensor of shape `(batch, keys, heads, size)`. Its heads may be a
            multiple of those of the prefix.
        value: tensor of the same shape.
        attention_mask: tensor that broadcasts to `(batch, queries, keys)`, or
            `None`.
        query: tensor of shape `(batch, queries, heads, size)`.

    Returns:
        A tuple `(key, value, attention_mask)` with the prefix first.
    """
    if attention_mask is None:
        rows = ops.ones_like(query[:, :, 0, :1])
        attention_mask = rows * ops.swapaxes(
            ops.ones_like(key[:, :, 0, :1]), 1, 2
        )
    attention_mask = ops.cast(attention_mask, "bool")
    shape = (*ops.shape(attention_mask)[:-1], prefix_key.shape[1])
    attended = ops.broadcast_to(gate > 0, shape)
    return (
        _joined(prefix_key, key),
        _joined(prefix_value, value),
        ops.concatenate([attended, attention_mask], axis=-1),
    )


def _joined(prefix, own):
    prefix = ops.cast(prefix, own.dtype)
    # Grouped queries share a head. Some layers repeat their heads before.
    prefix = ops.repeat(prefix, own.shape[2] // prefix.shape[2], axis=2)
    prefix = ops.broadcast_to(prefix, (ops.shape(own)[0], *prefix.shape[1:]))
    return ops.concatenate([prefix, own], axis=1)
