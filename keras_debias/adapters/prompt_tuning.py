import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.blocks import block_of
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.checks import check_context
from keras_debias.adapters.checks import refuse_merge
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.prompted_block import can_take_prompt
from keras_debias.layers.prompted_block import prompted_class
from keras_debias.utils.numbers import is_number

_ROLES = ("first", "inner", "last", "only")


@keras.saving.register_keras_serializable(package="keras_debias")
class PromptTuning(Adapter):
    """Trains vectors that are put before every input, as if they were tokens.

    `length` vectors of the width of the hidden states enter the first
    transformer block before the embedded tokens, and are removed after the
    last one. So outputs and heads see only the tokens, in the same shapes. In
    a decoder the vectors are outside of the cache of `generate`. Tokens keep
    their positions; if positions are rotary, the prompt has the positions
    before them. In an encoder, which has learned positions, the prompt has
    none.

    Unlike most adapters this one changes the outputs when it is applied.
    `adapters.disabled` gives the pretrained outputs; `adapters.merge` raises,
    because a prompt cannot become part of a weight. Between the blocks, hidden
    states are longer by `length`.

    A learning rate to start from is `3e-2`.

    Args:
        length: int. Number of vectors of the prompt. Defaults to `20`, beyond
            which the paper sees little gain.
        stddev: float. Standard deviation of the normal distribution around
            zero that they start from. Defaults to `0.02`.

    Raises:
        ValueError: If an argument is out of range, or, when applied, the
            prompt is longer than what the model reads at once, or a
            transformer block has an adapter of its states or attention,
            relative positions (T5, DeBERTa), cross-attention
            (encoder-decoders) or no mask (ViT).

    Example:

    ```python
    kd.adapters.apply(causal_lm, kd.adapters.PromptTuning(length=20))
    ```

    Reference:
        [Lester et al., 2021](https://aclanthology.org/2021.emnlp-main.243).
        In PEFT, encoders embed the prompt with positions, and classifiers
        pool its first vector; here they pool the first token.
    """

    # Which block of the network: `None` for an adapter not applied yet.
    role: str | None = None

    def __init__(self, length=20, stddev=0.02):
        super().__init__(targets=None)
        whole = isinstance(length, int) and not isinstance(length, bool)
        if not whole or length < 1:
            raise ValueError(
                "Expected `length` to be a positive integer. Received: "
                f"length={length!r}"
            )
        if not (is_number(stddev) and stddev > 0):
            raise ValueError(
                "Expected `stddev` to be a positive number. Received: "
                f"stddev={stddev!r}"
            )
        self.length = length
        self.stddev = stddev

    def resolve(self, model, training):
        if self.targets is not None:
            return [self] if super().find(model, training) else []
        # The first block holds the prompt, the last one removes it.
        paths = {id(layer): path for path, layer in layer_paths(model).items()}
        ordered = [paths[id(block.layer)] for block in blocks(model)]
        if len(ordered) == 1:
            parts = {"only": ordered}
        else:
            parts = {
                "first": ordered[:1],
                "inner": ordered[1:-1],
                "last": ordered[-1:],
            }
        refused = [
            path
            for path, layer in layer_paths(model).items()
            if path in ordered and not can_take_prompt(layer)
        ]
        if refused:
            raise ValueError(
                "Expected transformer blocks with one attention layer that "
                "computes scores from queries, keys and a mask alone. "
                f"Received: {refused[:3]}. Use `Houlsby` or `LoRA`; "
                "`PrefixTuning` needs no mask."
            )
        check_context(model, self.length)
        return [
            self.from_config(
                {**self.get_config(), "role": role, "targets": targets}
            )
            for role, targets in parts.items()
            if targets
        ]

    def find(self, model, training):
        paths = layer_paths(model)
        return {path: paths[path] for path in self.targets}

    def accepts(self, layer):
        return block_of(layer) is not None and can_take_prompt(layer)

    def exclusive_parts(self, layer):
        return {"prompt", "refine"}

    def check(self, path, layer):
        parts = {"prompt", "refine", "prefix"}
        inside = [
            other
            for other in (layer, *_keras_internals.child_layers(layer))
            if any(
                parts & adapter.exclusive_parts(other)
                for adapter in adapters_of(other)
            )
        ]
        if inside:
            raise ValueError(
                "Expected a transformer block without adapters that change "
                f"its states or attention. Received: '{path}' with "
                f"{adapters_of(inside[0])}. Apply it to a fresh model."
            )

    def check_directions(self, path, layer):
        raise ValueError(
            "Expected adapters whose updates can be kept from directions. "
            f"Received: '{path}' with {self!r}. Use `LoRA` or `DoRA`."
        )

    def attach(self, layer, prepared):
        # Another adapter of the same call may have come before.
        self.check(layer.name, layer)

        def change():
            layer.add_prompt(
                self.length,
                block_of(layer).width,
                self.role,
                keras.initializers.RandomNormal(stddev=self.stddev),
            )
            add_adapter(layer, self)

        _keras_internals.swap_class(layer, prompted_class(type(layer)), change)

    def disabled_values(self, layer):
        return [(layer.prompt_gate, 0.0)]

    def state(self, layer):
        return layer.adapter_state()

    def state_shapes(self, layer):
        if self.role in ("first", "only"):
            return {"prompt": (self.length, block_of(layer).width)}
        return {}

    def base(self, layer):
        # The prompt belongs to no weight.
        return {}

    def check_merge(self, path, layer, layers):
        refuse_merge(f"'{path}' with {self!r}")

    def merge(self, path, layer, layers):
        self.check_merge(path, layer, layers)

    def get_config(self):
        config = {"length": self.length, "stddev": self.stddev}
        if self.role is not None:
            config |= {"role": self.role, **super().get_config()}
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        role, targets = config.pop("role", None), config.pop("targets", None)
        if role not in (None, *_ROLES):
            raise ValueError(
                f"Expected `role` to be one of {list(_ROLES)}. Received: "
                f"role={role!r}"
            )
        adapter = cls(**config)
        adapter.role = role
        adapter.targets = None if targets is None else tuple(targets)
        return adapter
