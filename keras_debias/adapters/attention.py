"""Finds the query, key, value and output projections of attention layers."""

import dataclasses
import re

import keras

from keras_debias.adapters.selection import layer_paths

# How KerasHub and others name a projection, as the end of its path.
ROLES = {
    "query": r"query|query_dense|query_projector|q_proj|q_dense_layer",
    "key": r"key|key_dense|key_projector|k_proj|k_dense_layer",
    "value": r"value|value_dense|value_projector|v_proj|v_dense_layer",
}
OUTPUTS = (
    r"attention_output|output_dense|output_projector|out_proj|o_proj"
    r"|o_dense_layer|attention_projection"
)
# One layer for all three: queries, keys and values are the thirds of its
# last axis in every KerasHub model that has one.
FUSED = r"query_key_value|attention_qkv|qkv|qkv_proj|c_attn"
QKV_SLOTS = {"query": 0, "key": 1, "value": 2}

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
    return QKV_SLOTS[role] if re.fullmatch(FUSED, layer.name) else None


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
        for role, pattern in ROLES.items():
            if re.fullmatch(pattern, name):
                found[role] = AttentionProjectionLayer(path, layer)
            elif re.fullmatch(FUSED, name):
                found[role] = AttentionProjectionLayer(
                    path, layer, QKV_SLOTS[role]
                )
        if re.fullmatch(OUTPUTS, name):
            found["output"] = AttentionProjectionLayer(path, layer)

    result = []
    for path, found in families.items():
        roles = set(found) & set(ROLES)
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
        if roles == set(ROLES):
            output = found.get("output")
            triple = [found[role] for role in ROLES]
            result.append(Attention(path, *triple, output))
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
    """The output projection beside a projection, `(path, layer)` or None."""
    parent = path.rsplit("/", 1)[0] + "/" if "/" in path else ""
    for other, layer in layers.items():
        name = other.removeprefix(parent)
        if other.startswith(parent) and re.fullmatch(OUTPUTS, name):
            return other, layer
    return None
