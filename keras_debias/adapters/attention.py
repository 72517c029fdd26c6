"""Finds the query, key, value and output projections of attention layers."""

import dataclasses
import re

import keras

from keras_debias.adapters.selection import layer_paths
from keras_debias.utils.layer_roles import NAMES
from keras_debias.utils.layer_roles import QUERY_KEY_VALUE

QKV_SLOTS = {role: slot for slot, role in enumerate(QUERY_KEY_VALUE)}

_LINEAR = r"linear_?attention|delta_?net|performer|retention|state_?space"


@dataclasses.dataclass(frozen=True)
class AttentionProjectionLayer:
    """A projection of an attention layer.

    Args:
        path: string. Its path in the model.
        layer: the `Dense` or `EinsumDense` layer.
        qkv_slot: int or `None`. For a fused projection, which third of its
            outputs.
    """

    path: str
    layer: keras.Layer
    qkv_slot: int | None = None


@dataclasses.dataclass(frozen=True)
class Attention:
    """The projections of one attention layer; `output` may be `None`."""

    path: str
    query: AttentionProjectionLayer
    key: AttentionProjectionLayer
    value: AttentionProjectionLayer
    output: AttentionProjectionLayer | None


def last_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def qkv_slot_of(layer: keras.Layer, role: str) -> int | None:
    """Which third of a fused projection a role has, else `None`."""
    return QKV_SLOTS[role] if layer.name in NAMES["fused"] else None


def is_dense(layer: keras.Layer) -> bool:
    return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))


def attentions(model: keras.Model) -> list[Attention]:
    """The attention layers of a model with softmax, in its order.

    Args:
        model: a built `keras.Model`.

    Raises:
        ValueError: If there is none, the projections of one cannot be told
            apart, or one has no softmax (linear attention).
    """
    paths = layer_paths(model)
    families: dict[str, dict[str, AttentionProjectionLayer]] = {}
    for path, layer in paths.items():
        if not is_dense(layer):
            continue
        parent = path.rsplit("/", 1)[0] if "/" in path else ""
        found = families.setdefault(parent, {})
        name = last_name(path)
        for role in QUERY_KEY_VALUE:
            if name in NAMES[role]:
                found[role] = AttentionProjectionLayer(path, layer)
            elif name in NAMES["fused"]:
                found[role] = AttentionProjectionLayer(
                    path, layer, QKV_SLOTS[role]
                )
        if name in NAMES["attention_output"]:
            found["output"] = AttentionProjectionLayer(path, layer)

    result = []
    for path, found in families.items():
        roles = set(found) & set(QUERY_KEY_VALUE)
        parent = paths.get(path)
        kind = type(parent).__name__ if parent is not None else ""
        children = [
            p
            for p, x in paths.items()
            if is_dense(x) and p.rsplit("/", 1)[0] == path
        ]
        if children and re.search(_LINEAR, kind, re.IGNORECASE):
            raise ValueError(
                "Expected attention with a softmax, which the theory of "
                f"value biases is about. Received: '{path}', a `{kind}`. "
                "Name the projections of the other layers in `targets`."
            )
        if roles == set(QUERY_KEY_VALUE):
            output = found.get("output")
            named = {role: found[role] for role in QUERY_KEY_VALUE}
            result.append(Attention(path, **named, output=output))
        elif roles or (children and kind.endswith("Attention")):
            raise ValueError(
                "Expected attention layers with a query, a key and a value "
                f"projection that can be told apart. Received: '{path}' "
                f"(`{kind}`) with {[last_name(p) for p in children]}. Name "
                "the projections in `targets`."
            )
    if not result:
        listed = "\n".join(f"  {p}" for p in list(paths)[:40]) or "  none"
        raise ValueError(
            "Expected a model with attention layers. Received: "
            f"model={model.name!r}, in which none was found. The model has "
            f"these layers:\n{listed}"
        )
    return result


def output_of(path: str, layers: dict[str, keras.Layer]):
    """The output projection of the same attention, `(path, layer)` or None."""
    parent = path.rsplit("/", 1)[0] + "/" if "/" in path else ""
    for other, layer in layers.items():
        name = other.removeprefix(parent)
        if other.startswith(parent) and name in NAMES["attention_output"]:
            return other, layer
    return None
