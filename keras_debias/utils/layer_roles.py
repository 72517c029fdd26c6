"""The roles of dense layers in a transformer, by the names that they have.

KerasHub uses different names for the same projection. This table is the one
place that knows them: selectors, attention layers, blocks and directions read
it.
"""

QUERY_KEY_VALUE = ("query", "key", "value")

# Names of a layer by role. Most are the last part of its path. Of a
# feed-forward layer it is the path within its block, in which the perceptron
# may be a level of its own.
NAMES = {
    "query": (
        *("query", "query_dense", "query_projector", "query_proj"),
        *("q_proj", "q_dense_layer"),
    ),
    "key": (
        *("key", "key_dense", "key_projector", "key_proj"),
        *("k_proj", "k_dense_layer"),
    ),
    "value": (
        *("value", "value_dense", "value_projector", "value_proj"),
        *("v_proj", "v_dense_layer"),
    ),
    # One layer for all three: queries, keys and values are the thirds of its
    # last axis in every KerasHub model that has one.
    "fused": ("query_key_value", "attention_qkv", "qkv", "qkv_proj", "c_attn"),
    "attention_output": (
        *("attention_output", "output_dense", "output_projector"),
        *("out_proj", "o_proj", "o_dense_layer", "attention_projection"),
    ),
    "feedforward_output": (
        *("feedforward_output_dense", "ffw_linear", "output_projector"),
        *("mlp_output_dense", "mlp_dense_2", "dense_4h_to_h"),
        *("mlp/dense_1", "mlp/down_proj", "mlp/c_proj", "mlp/fc2"),
    ),
    "feedforward_intermediate": (
        *("feedforward_intermediate_dense", "ffw_gating_2", "input_projector"),
        *("mlp_intermediate_dense", "mlp_dense_1", "dense_h_to_4h"),
        *("mlp/dense", "mlp/up_proj", "mlp/c_fc", "mlp/fc1"),
    ),
    "feedforward_gate": (
        *("feedforward_gate_dense", "ffw_gating", "gate_projector"),
        "mlp/gate_proj",
    ),
    "pooler": ("pooled_dense",),
}
ATTENTION = (*QUERY_KEY_VALUE, "attention_output")
FEEDFORWARD = (
    *("feedforward_output", "feedforward_intermediate", "feedforward_gate"),
)
BLOCK = (*ATTENTION, *FEEDFORWARD)


def _globs(*roles) -> tuple[str, ...]:
    names = dict.fromkeys(name for role in roles for name in NAMES[role])
    return tuple(f"*/{name}" if "/" in name else name for name in names)


# Globs of the layers whose inputs are the residual stream (after a
# normalization), and of those whose outputs are added to it.
READERS = _globs(
    *QUERY_KEY_VALUE,
    "fused",
    "feedforward_intermediate",
    "feedforward_gate",
    "pooler",
)
WRITERS = _globs("attention_output", "feedforward_output")
