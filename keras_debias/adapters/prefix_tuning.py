import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.checks import check_context
from keras_debias.adapters.checks import refuse_merge
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.prefixed_attention import can_take_prefix
from keras_debias.layers.prefixed_attention import prefixed_class
from keras_debias.layers.prompted_block import PromptedAttention
from keras_debias.linalg import kernel_view
from keras_debias.utils.layer_roles import NAMES
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class PrefixTuning(Adapter):
    """Trains keys and values that every query attends to, in each layer.

    Each attention layer gets `length` keys and as many values before those of
    the tokens: `2 * length * width` weights, with the total width of its key
    and value heads. They are outside of the cache of `generate` and of sliding
    windows. Unlike most adapters this one changes the outputs when it is
    applied: a prefix takes its share of attention. `adapters.disabled` gives
    the pretrained outputs; `adapters.merge` raises, because a prefix cannot
    become part of a kernel.

    A learning rate to start from is `1e-2`.

    Args:
        length: int. Number of keys and values in each layer. Defaults to `10`;
            the paper has 10 for short outputs and 200 for summaries.
        stddev: float. Standard deviation of the normal distribution around
            zero that they start from. Defaults to `0.02`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The attention layers. Defaults to `None`: all.

    Raises:
        ValueError: If an argument is out of range, or, when applied, the
            prefix is longer than what the model reads at once, or an attention
            layer computes relative positions, such as those of T5 and DeBERTa,
            where a prefix has no position.

    Example:

    ```python
    kd.adapters.apply(causal_lm, kd.adapters.PrefixTuning(length=10))
    ```

    Reference:
        [Li and Liang, 2021](https://aclanthology.org/2021.acl-long.353). They
        train the prefix through a perceptron, which is dropped afterwards;
        here it trains directly, as is PEFT's default. Tokens keep their
        positions; in PEFT they are shifted by the length.
    """

    def __init__(self, length=10, stddev=0.02, targets=None):
        super().__init__(targets)
        if (
            not isinstance(length, int)
            or isinstance(length, bool)
            or length < 1
        ):
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

    def find(self, model, training):
        if self.targets is not None:
            return super().find(model, training)
        paths = layer_paths(model)
        found = {each.path: paths.get(each.path) for each in attentions(model)}
        refused = [p for p, x in found.items() if not self.accepts(x)]
        if refused:
            raise ValueError(
                "Expected attention layers that compute scores from queries, "
                f"keys and a mask alone. Received: {refused[:3]}, "
                f"`{type(found[refused[0]]).__name__}`. Name others in "
                "`targets`, or use `Houlsby` or `LoRA`."
            )
        check_context(model, self.length)
        return found

    def accepts(self, layer):
        return (
            layer is not None
            and can_take_prefix(layer)
            and None not in _key_and_value(layer)
        )

    def exclusive_parts(self, layer):
        return {"prefix"}

    def check(self, path, layer):
        if not layer.built:
            raise ValueError(
                "Expected a built model. Received: the layer "
                f"'{path}' has no weights yet. Call the model on a batch "
                "before `adapters.apply`."
            )
        if adapters_of(layer) or isinstance(layer, PromptedAttention):
            raise ValueError(
                "Expected an attention layer without adapters. Received: "
                f"'{path}' with {adapters_of(layer) or '`PromptTuning`'}. "
                "Choose other `targets`, or apply it to a fresh model."
            )

    def check_directions(self, path, layer):
        raise ValueError(
            "Expected adapters whose updates can be kept from directions. "
            f"Received: '{path}' with {self!r}. Use `LoRA` or `DoRA`."
        )

    def attach(self, layer, prepared):
        # Another adapter of the same call may have come before.
        self.check(layer.name, layer)
        shapes = self.state_shapes(layer)

        def change():
            layer.add_prefix(
                shapes, keras.initializers.RandomNormal(stddev=self.stddev)
            )
            add_adapter(layer, self)

        _keras_internals.swap_class(layer, prefixed_class(type(layer)), change)

    def disabled_values(self, layer):
        return [(layer.prefix_gate, 0.0)]

    def state(self, layer):
        return layer.adapter_state()

    def state_shapes(self, layer):
        names = ("prefix_key", "prefix_value")
        return {
            name: (
                self.length,
                *kernel_view(projection).trailing_shape("outputs"),
            )
            for name, projection in zip(names, _key_and_value(layer))
        }

    def base(self, layer):
        # The prefix belongs to no weight.
        return {}

    def check_merge(self, path, layer, layers):
        refuse_merge(f"'{path}' with {self!r}")

    def merge(self, path, layer, layers):
        self.check_merge(path, layer, layers)

    def get_config(self):
        return {
            "length": self.length,
            "stddev": self.stddev,
            **super().get_config(),
        }


def _key_and_value(layer) -> list:
    """Its projections of keys and of values by heads, each or `None`."""
    found = []
    for role in ("key", "value"):
        fitting = [
            child
            for child in _keras_internals.child_layers(layer)
            if is_dense(child)
            and child.name in NAMES[role]
            and child.built
            and len(kernel_view(child).trailing_shape("outputs") or ()) == 2
        ]
        found.append(fitting[0] if len(fitting) == 1 else None)
    return found
