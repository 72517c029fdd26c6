"""Attention over more keys and values than a layer's own."""

import abc
import inspect

import keras
from keras import ops


# With `abc.ABC` as its base, no layer could change its class to this one.
class AttendsToMore(metaclass=abc.ABCMeta):
    """Mixed into an attention class: more keys and values than its own.

    `_compute_attention` and `_mask_sliding_window` (Keras 3.15, KerasHub
    0.32): projected keys and values, those of a cache too, are together
    nowhere else. A window over positions knows nothing of the others.
    """

    @abc.abstractmethod
    def more(self, query, key, value, attention_mask) -> tuple:
        """Keys, values and mask in place of the layer's own.

        Those that are more come first; the mask is never `None`.
        """

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many they are."""

    def _compute_attention(self, *args, **kwargs):
        function = super()._compute_attention
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        names = attention_arguments(type(self))
        query, key, value, mask = (given.get(name) for name in names)
        found = self.more(query, key, value, mask)
        given = {**given, **dict(zip(names[1:], found))}
        return function(**given)

    def _mask_sliding_window(self, attention_mask, *args, **kwargs):
        own = attention_mask[..., self.count :]
        own = super()._mask_sliding_window(own, *args, **kwargs)
        rest = ops.cast(attention_mask[..., : self.count], own.dtype)
        rest = ops.broadcast_to(rest, (*ops.shape(own)[:-1], self.count))
        return ops.concatenate([rest, own], axis=-1)


def attention_arguments(attention_class: type) -> list[str] | None:
    """What a class calls queries, keys, values and the mask between.

    `None` for one that does not compute attention from these four, such as
    one with positions relative to each other.
    """
    for parent in attention_class.__mro__:
        function = vars(parent).get("_compute_attention")
        if function is not None and parent is not AttendsToMore:
            names = list(inspect.signature(function).parameters)[1:5]
            fits = len(names) == 4 and names[3] == "attention_mask"
            return names if fits else None
    return None


def rotary_embedding(attention: keras.Layer):
    """The function that rotates keys, of `(x, start_index)`, or `None`.

    `_apply_rope`: Gemma's layers reorder what their layer has rotated.
    """
    for name in ("_apply_rope", "rotary_embedding_layer"):
        found = getattr(attention, name, None)
        if found is not None:
            return lambda x, start: found(x, start_index=start)
    return None
