"""The table of layer roles, against models of the installed KerasHub."""

import ast
import pathlib

import keras_hub
import numpy as np
import pytest

import keras_debias as kd
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import select
from keras_debias.linalg import kernel_view
from keras_debias.utils import layer_roles
from tests import architectures

WIDTH = architectures.HIDDEN_DIM
SMALL = {
    "num_layers": 2,
    "hidden_dim": WIDTH,
    "intermediate_dim": 12,
}
TOKENS = {**SMALL, "vocabulary_size": 20}
IMAGES = {**SMALL, "patch_size": 4, "image_shape": (8, 8, 3), "num_heads": 2}


# Architectures whose layers have other names than those of
# `tests.architectures`.
MORE = {
    "bloom": lambda: keras_hub.models.BloomBackbone(**TOKENS, num_heads=2),
    "falcon": lambda: keras_hub.models.FalconBackbone(
        **TOKENS, num_attention_heads=2
    ),
    "roformer_v2": lambda: keras_hub.models.RoformerV2Backbone(
        **TOKENS, num_heads=2, head_size=4
    ),
    "dinov3": lambda: keras_hub.models.DINOV3Backbone(**IMAGES),
}
OWN = ("functional", "subclassed", "sequential")
BUILD = {
    a.name: a.build
    for a in architectures.ARCHITECTURES
    if a.adaptable and a.name not in OWN
} | MORE


@pytest.mark.parametrize("name", BUILD)
def test_each_layer_of_a_block_has_one_role(name):
    """Selectors, attention layers, blocks and directions agree."""
    model = BUILD[name]()
    dense = {p: x for p, x in layer_paths(model).items() if is_dense(x)}
    path_of = {id(layer): path for path, layer in dense.items()}
    roles = {}
    for block in blocks(model):
        for role, layers in block.modules.items():
            for layer in layers:
                assert id(layer) not in roles
                roles[id(layer)] = role
    # A block has no other dense layer.
    outside = {p for p, x in dense.items() if id(x) not in roles}
    assert not [p for p in outside if "layer" in p or "block" in p]

    found = attentions(model)
    for role in layer_roles.QUERY_KEY_VALUE:
        expected = {path_of[i] for i, r in roles.items() if r == role}
        assert expected == {getattr(a, role).path for a in found}
        assert expected == set(select(model, role, is_dense, "targets"))
    expected = {i for i, r in roles.items() if r == "attention_output"}
    assert expected == {id(a.output.layer) for a in found}

    # Readers take hidden states in, writers give them out.
    directions = kd.Directions(np.eye(WIDTH)[:, :1], side="both")
    for identity, role in roles.items():
        path = path_of[identity]
        view = kernel_view(dense[path])
        writes = role in ("attention_output", "feedforward_output")
        side = directions.role_of(path, adapted=False)
        assert side == ("write" if writes else "read"), path
        assert (view.outputs if writes else view.inputs) == WIDTH


def test_targets_query_is_q_proj():
    model = keras_hub.models.SmolLM3Backbone(
        **TOKENS,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True, True],
        layer_types=["full_attention"] * 2,
        mlp_bias=False,
        layer_norm_epsilon=1e-5,
        max_position_embeddings=8,
        rope_theta=1e4,
        partial_rotary_factor=1.0,
    )
    kd.adapters.apply(model, kd.adapters.LoRA(2, targets="query"), ())
    names = {v.path.split("/", 1)[1] for v in model.trainable_variables}
    assert names == {f"self_attn/q_proj/lora_{part}" for part in "ab"}


def test_a_fused_projection_reads_and_is_no_query():
    model = keras_hub.models.GPTNeoXBackbone(
        **TOKENS, num_heads=2, max_sequence_length=8
    )
    assert {a.query.layer.name for a in attentions(model)} == {
        "query_key_value"
    }
    directions = kd.Directions(np.eye(WIDTH)[:, :1])
    for path, layer in layer_paths(model).items():
        if layer.name == "query_key_value":
            assert directions.role_of(path, adapted=False) == "read"
    with pytest.raises(ValueError, match="match at least one layer"):
        kd.adapters.apply(model, kd.adapters.LoRA(2, targets="query"), ())


# Layers for positions, offsets and convolutions, and outputs whose name tells
# too little: Gemma 4 has a router named `proj`.
OTHERS = {
    *("encoding", "attention_weights", "sampling_offsets"),
    *("linear_start", "linear_end"),
    *("proj", "post", "output"),
}


def test_attention_of_kerashub_has_names_of_the_table():
    """A name that a new version brings does not go unnoticed."""
    known = {name for role in layer_roles.NAMES.values() for name in role}
    root = pathlib.Path(keras_hub.__file__).parent / "src" / "models"
    unknown = {}
    files = 0
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name.endswith("_test.py") or "Attention(" not in text:
            continue
        files += 1
        for part in ast.walk(ast.parse(text)):
            if isinstance(part, ast.ClassDef) and "Attention" in part.name:
                names = set(_names_of_dense_layers(part)) - known - OTHERS
                if names:
                    unknown[f"{path.stem}.{part.name}"] = sorted(names)
    assert files > 30
    assert not unknown


def _names_of_dense_layers(part):
    for call in ast.walk(part):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
            (".Dense", ".EinsumDense")
        ):
            for keyword in call.keywords:
                value = keyword.value
                if keyword.arg == "name" and isinstance(value, ast.Constant):
                    yield value.value
