"""Transformer blocks that read a trained prompt before their input."""

import contextlib
import functools
import inspect

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.block_update import BlockUpdate
from keras_debias.layers.block_update import in_place_block
from keras_debias.layers.block_update import plain_block_class
from keras_debias.layers.prefixed_attention import attend_to_prefix
from keras_debias.layers.prefixed_attention import can_take_prefix


class PromptedAttention(_keras_internals.AttendsToMore):
    """Causal attention of tokens to the keys and values of a prompt.

    A mixin. The block calls the layer twice: on the prompt, to keep its keys
    and values, and on the tokens, which attend to them. Keys and values of the
    prompt never enter the cache of `generate`.
    """

    # `(key, value, gate)` during the call on tokens; they are tensors, which
    # must not outlive the call.
    _prompt = None
    _kept = None

    @property
    def count(self):
        return 0 if self._prompt is None else self._prompt[0].shape[1]

    def more(self, query, key, value, attention_mask):
        if self._prompt is None:
            self.__dict__["_kept"] = (self._before_tokens(key), value)
            return key, value, attention_mask
        prompt_key, prompt_value, gate = self._prompt
        return attend_to_prefix(
            prompt_key, prompt_value, gate, key, value, attention_mask, query
        )

    @contextlib.contextmanager
    def reading(self, prompt):
        """A context in which tokens also attend to the prompt."""
        self.__dict__["_prompt"] = prompt
        try:
            yield
        finally:
            del self.__dict__["_prompt"]

    def take_kept(self):
        return self.__dict__.pop("_kept")

    def _before_tokens(self, key):
        """Rotates keys of positions from 0 on to the positions before 0."""
        rotate = _keras_internals.rotary_embedding(self)
        if rotate is None:
            return key
        # All rows of a batch are rotated alike: each key becomes a row.
        rows = ops.swapaxes(key, 0, 1)
        # Gemma's layers reorder what they rotate, here for a second time.
        rows = ops.take(rows, self._order_before(rotate, key.shape), axis=-1)
        rows = rotate(rows, -int(key.shape[1]))
        return ops.swapaxes(rows, 0, 1)

    def _order_before(self, rotate, shape):
        numbers = ops.arange(shape[-1], dtype="float32")
        numbers = ops.broadcast_to(numbers, (1, 1, *shape[-2:]))
        order = rotate(numbers, 0)[0, 0, 0]
        return ops.argsort(ops.cast(order, "float32"))


class PromptedBlock(BlockUpdate):
    """A transformer block with a prompt before its input.

    A mixin. The first block puts the prompt before its input, and the last
    block removes it; in between, the hidden states include it. In an encoder,
    the prompt is a part of the sequence and attends to the tokens. In a
    decoder, it attends only to itself, so it is computed once and not for each
    row. Tokens attend to it in addition to the cache.
    """

    def call(self, *args, **kwargs):
        call = super().call
        bound = inspect.signature(call).bind(*args, **kwargs)
        given = bound.arguments
        # Named arguments of `call(**kwargs)`, if it has any.
        given.update(given.pop("kwargs", {}))
        name = next(iter(inspect.signature(call).parameters))
        prompt, tokens = self._split(given.pop(name))
        if self.prompted_attention is None:
            prompt, outputs = self._encode(call, prompt, tokens, name, given)
        else:
            prompt, outputs = self._decode(call, prompt, tokens, name, given)
        if self.is_last_block:
            return outputs
        states = outputs[0] if isinstance(outputs, tuple) else outputs
        states = self._join(prompt, states)
        if isinstance(outputs, tuple):
            return (states, *outputs[1:])
        return states

    def _split(self, x):
        """The prompt, of one row in a decoder, and the tokens."""
        if self.is_first_block:
            return ops.cast(self.prompt.value, x.dtype)[None], x
        prompt, tokens = x[:, : self.prompt_length], x[:, self.prompt_length :]
        mask = _keras_internals.get_keras_mask(x)
        if mask is not None:
            _keras_internals.set_keras_mask(tokens, mask)
        return prompt, tokens

    def _join(self, prompt, tokens):
        shape = (ops.shape(tokens)[0], *prompt.shape[1:])
        return ops.concatenate(
            [ops.broadcast_to(prompt, shape), tokens], axis=1
        )

    def _encode(self, call, prompt, tokens, name, given):
        if given.get("attention_mask") is not None:
            raise ValueError(
                "Expected a block that masks padding alone. Received: "
                f"'{self.name}' with an `attention_mask`, which has no "
                "columns for the prompt. Use `PrefixTuning`."
            )
        mask = given.get("padding_mask")
        if mask is None:
            mask = _keras_internals.get_keras_mask(tokens)
        if mask is None:
            mask = ops.ones(ops.shape(tokens)[:2], "bool")
        shape = (ops.shape(tokens)[0], self.prompt_length)
        attended = ops.broadcast_to(self.prompt_gate.value > 0, shape)
        given["padding_mask"] = ops.concatenate(
            [attended, ops.cast(mask, "bool")], axis=1
        )
        outputs = call(**{name: self._join(prompt, tokens)}, **given)
        length = self.prompt_length
        return outputs[:, :length], outputs[:, length:]

    def _decode(self, call, prompt, tokens, name, given):
        attention = self.prompted_attention
        # One row is enough: the prompt depends on no other input.
        training = {k: v for k, v in given.items() if k == "training"}
        prompt = call(**{name: prompt[:1]}, **training)
        key, value = attention.take_kept()
        with attention.reading((key, value, self.prompt_gate.value)):
            return prompt, call(**{name: tokens}, **given)

    def add_prompt(self, length, width, role, initializer):
        """Prepares the built layer for a network with a prompt.

        Args:
            length: int. Number of vectors of the prompt.
            width: int. Size of the hidden states.
            role: string, `"first"`, `"inner"`, `"last"` or `"only"`: which
                block of the network it is.
            initializer: initializer of the prompt, which is a weight of the
                first block.
        """
        self.prompt_length = length
        self.is_first_block = role in ("first", "only")
        self.is_last_block = role in ("last", "only")
        if self.is_first_block:
            self.prompt = self._add_part("prompt", (length, width), initializer)
            self.prompt.trainable = True
        # A variable: compiled functions see it change.
        self.prompt_gate = self._add_part("prompt_gate", (), "ones")
        self.prompt_gate.trainable = False
        self.__dict__["prompted_attention"] = None
        if takes_cache(self):
            (attention,) = attention_layers(self)
            _keras_internals.swap_class(
                attention,
                in_place_block(type(attention), PromptedAttention),
                lambda: None,
            )
            # In `__dict__`: it is tracked as a part of the block already.
            self.__dict__["prompted_attention"] = attention

    def _add_part(self, name, shape, initializer):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype="float32",
            autocast=False,
        )

    def adapter_state(self):
        return {"prompt": self.prompt} if self.is_first_block else {}

    def adapter_variables(self):
        return [*super().adapter_variables(), self.prompt_gate]

    def has_update(self):
        # Vectors of zeros receive attention as well.
        return self.is_first_block

    def reset_updates(self):
        if self.is_first_block:
            raise ValueError(
                "Expected a file with the prompt. Received: one without, for "
                f"'{self.name}', which has one that cannot be made nothing. "
                "Load it into a model without the adapter, and apply it there."
            )


def _arguments(layer: keras.Layer) -> list[str]:
    kind: type[keras.Layer] = plain_block_class(layer)
    return list(inspect.signature(kind.call).parameters)


def takes_cache(layer: keras.Layer) -> bool:
    """Whether a block is causal: one that can decode token by token."""
    return any("cache" in name for name in _arguments(layer))


def attention_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The attention layers of a block."""
    return [
        child
        for child in _keras_internals.child_layers(layer)
        if _keras_internals.attention_arguments(type(child)) is not None
        or "attention" in type(child).__name__.lower()
    ]


def can_take_prompt(layer: keras.Layer) -> bool:
    """Whether a prompt can be put before the input of a block.

    The block must have one attention layer, whose scores depend only on
    queries, keys and a mask. It must mask padding or be causal.
    """
    found = attention_layers(layer)
    return (
        len(found) == 1
        and can_take_prefix(found[0])
        and (takes_cache(layer) or "padding_mask" in _arguments(layer))
    )


@functools.cache
def prompted_class(plain: type) -> type:
    """The class of a block with a prompt."""
    return in_place_block(plain, PromptedBlock)
