"""Finds the transformer blocks of a model and the projections in them."""

import dataclasses
import re

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.attention import OUTPUTS
from keras_debias.adapters.attention import ROLES
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view

# How KerasHub and others name a projection, as its path within the block:
# an attention layer is a level of its own, and so may be the perceptron.
FEEDFORWARD = {
    "feedforward_output": (
        r"feedforward_output_dense|ffw_linear|output_projector"
        r"|mlp/(dense_1|down_proj|c_proj|fc2)"
    ),
    "feedforward_intermediate": (
        r"feedforward_intermediate_dense|ffw_gating_2|input_projector"
        r"|mlp/(dense|up_proj|c_fc|fc1)"
    ),
    "feedforward_gate": (
        r"feedforward_gate_dense|ffw_gating|gate_projector|mlp/gate_proj"
    ),
}
ATTENTION = {**ROLES, "attention_output": OUTPUTS}
MODULES = (*ATTENTION, *FEEDFORWARD)


@dataclasses.dataclass(frozen=True)
class Block:
    """A transformer block.

    Args:
        layer: the layer that is the block.
        modules: dict from a name in `MODULES` to a list of projections; a
            decoder with cross-attention has two of each attention one.
    """

    layer: keras.Layer
    modules: dict[str, list[keras.Layer]]

    @property
    def width(self) -> int:
        """The size of the hidden states that enter the block."""
        return kernel_view(self.modules["feedforward_output"][0]).outputs


def block_of(layer: keras.Layer) -> Block | None:
    """A built layer as a block, or `None` if it is not one."""
    path = getattr(layer, "path", None)
    # The layers of a functional model do not carry its path.
    if not path or isinstance(layer, keras.Model):
        return None
    depth = path.count("/") + 1
    found: dict[str, list] = {}
    for other, child in layer_paths(layer).items():
        if not is_dense(child):
            continue
        inside = "/".join(other.split("/")[depth:])
        parent, _, name = inside.rpartition("/")
        for module, pattern in FEEDFORWARD.items():
            if re.fullmatch(pattern, inside):
                found.setdefault(module, []).append(child)
        if parent and "/" not in parent and parent != "mlp":
            for module, pattern in ATTENTION.items():
                if re.fullmatch(pattern, name):
                    found.setdefault(module, []).append(child)
    if "feedforward_output" in found and "attention_output" in found:
        return Block(layer, found)
    return None


def blocks(model: keras.Model, required: bool = True) -> list[Block]:
    """The transformer blocks of a model, in the order they are applied.

    The encoder's come before the decoder's.

    Args:
        model: a built `keras.Model`.
        required: bool. Whether there must be one. Defaults to `True`.

    Raises:
        ValueError: If there is none and `required`.
    """
    found, seen = [], set()

    def visit(layer):
        for child in _keras_internals.child_layers(layer):
            if id(child) in seen:
                continue
            seen.add(id(child))
            block = block_of(child)
            if block is not None:
                found.append(block)
            else:
                visit(child)

    visit(model)
    if required and not found:
        paths = list(layer_paths(model))
        listed = "\n".join(f"  {p}" for p in paths[:40]) or "  none"
        raise ValueError(
            "Expected a model of transformer blocks: layers that hold an "
            "attention layer and a feed-forward output of known names. "
            f"Received: model={model.name!r}, in which none was found. The "
            f"model has these layers:\n{listed}"
        )
    return found
