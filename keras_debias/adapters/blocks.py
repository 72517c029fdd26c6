"""Finds the transformer blocks of a model and the projections in them."""

import dataclasses

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view
from keras_debias.utils.layer_roles import ATTENTION
from keras_debias.utils.layer_roles import FEEDFORWARD
from keras_debias.utils.layer_roles import NAMES


@dataclasses.dataclass(frozen=True)
class Block:
    """A transformer block.

    Args:
        layer: the layer that is the block.
        modules: dict from a role of `layer_roles.BLOCK` to a list of
            projections. A decoder with cross-attention has two projections
            for each role of attention.
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
        for module in FEEDFORWARD:
            if inside in NAMES[module]:
                found.setdefault(module, []).append(child)
        if parent and "/" not in parent and parent != "mlp":
            for module in ATTENTION:
                if name in NAMES[module]:
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
