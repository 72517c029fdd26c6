"""Reads and writes prefix tuning folders of the PEFT library."""

import math
import pathlib
import re

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter_folder import read_json
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.peft_names import CONFIG_NAME
from keras_debias.adapters.peft_names import finish_load
from keras_debias.adapters.peft_names import import_map
from keras_debias.adapters.peft_names import read_tensors
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.prefix_tuning import PrefixTuning
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.linalg import kernel_view

TENSOR = "prompt_embeddings"


def prefix_parts(
    model: keras.Model, layers: dict, prefix: str
) -> tuple[dict, dict]:
    """The tensor and settings of a prefix folder, for `export_peft`.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Not used: a prefix is in no module.
    """
    ordered = rotary_attention_layers(model, next(iter(layers)))
    adapters = {a for layer in layers.values() for a in adapters_of(layer)}
    lengths = {getattr(adapter, "length", None) for adapter in adapters}
    if {path for path, _ in ordered} != set(layers) or len(lengths) > 1:
        raise ValueError(
            "Expected prefixes of one length in all attention layers, as PEFT "
            f"has them. Received: {sorted(adapters, key=repr)} on "
            f"{len(layers)} of {len(ordered)} layers. Save with "
            "`adapters.save`."
        )
    (length,), parts = lengths, []
    for _, layer in ordered:
        parts.append(_key_there(layer, as_array(layer.prefix_key)))
        parts.append(as_array(layer.prefix_value))
    heads, size = parts[0].shape[1:]
    together = np.stack(parts, axis=1).reshape(length, -1)
    return {TENSOR: np.ascontiguousarray(together, "float32")}, {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": length,
        "num_layers": len(ordered),
        "num_attention_heads": heads,
        "token_dim": heads * size,
        "encoder_hidden_size": heads * size,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }


def read_virtual_tokens(
    model: keras.Model, folder: pathlib.Path, kind: str, columns: str
) -> np.ndarray:
    """The one tensor of a prefix or prompt folder of a decoder.

    Args:
        model: the model that it is for.
        folder: path. The folder to read.
        kind: string, `"prefix"` or `"prompt"`, for errors.
        columns: string, what the second axis holds, for errors.

    Returns:
        An array of shape `(length, columns)`.

    Raises:
        ValueError: If the folder holds something else.
    """
    tensors = read_tensors(folder, model)
    if set(tensors) != {TENSOR} or tensors[TENSOR].ndim != 2:
        raise ValueError(
            f"Expected one tensor '{TENSOR}' of shape (length, {columns}). "
            f"Received: {str(folder)!r} with "
            f"{ {k: v.shape for k, v in tensors.items()} }. Save the adapter "
            "again, without `modules_to_save`."
        )
    submodules = read_json(folder / CONFIG_NAME).get(
        "num_transformer_submodules"
    )
    if submodules not in (None, 1):
        raise ValueError(
            f"Expected a {kind} of a decoder. Received: "
            f"{str(folder)!r} with num_transformer_submodules={submodules}. "
            "For encoder-decoders, use LoRA."
        )
    return tensors[TENSOR]


def load_prefix(
    model: keras.Model, folder: pathlib.Path, trainable: bool
) -> None:
    """Loads a prefix tuning folder of PEFT, all or nothing.

    `adapters.load` calls it. In PEFT, positions of tokens are shifted by the
    length of the prefix. Here tokens keep their positions, and keys of the
    prefix are rotated back by the same amount, so the scores are the same.

    Args:
        model: a built KerasHub causal language model, or its backbone,
            without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the prefix trains.

    Raises:
        ValueError: If the folder is broken, does not fit the model, or the
            model has positions that are not rotations. The model is
            unchanged then.
    """
    tensor = read_virtual_tokens(model, folder, "prefix", "values")
    ordered = rotary_attention_layers(model, str(folder))
    paths = tuple(path for path, _ in ordered)
    adapter = PrefixTuning(length=len(tensor), targets=paths)
    for path, layer in ordered:
        adapter.check(path, layer)
    heads, size = adapter.state_shapes(ordered[0][1])["prefix_key"][1:]
    shape = (len(tensor), 2 * len(ordered), heads, size)
    if tensor.size != math.prod(shape):
        raise ValueError(
            f"Expected '{TENSOR}' of shape {(shape[0], math.prod(shape[1:]))} "
            f"for {len(ordered)} layers with {heads} heads of size {size}. "
            f"Received: {str(folder)!r} with {tensor.shape}. Load the "
            "architecture and size that it was made for."
        )
    parts = np.moveaxis(tensor.reshape(shape), 1, 0)
    with unchanged_on_error(model):
        trained = []
        for (_, layer), key, value in zip(ordered, parts[::2], parts[1::2]):
            adapter.attach(layer, None)
            layer.prefix_key.assign(_rotated(layer, key, -len(tensor)))
            layer.prefix_value.assign(value)
            trained += list(adapter.state(layer).values())
        finish_load(model, trained, [], trainable)


def rotary_attention_layers(model, received) -> list[tuple]:
    """`(path, layer)` of all attention layers, as Hugging Face counts them.

    Raises where PEFT's positions have no equal here.
    """
    paths, places = layer_paths(model), []
    modules = {id(v): (key, hook) for v, key, hook in import_map(model)}
    for each in attentions(model):
        layer = paths.get(each.path)
        found = [
            modules.get(id(projection.layer.kernel), ("", None))
            for projection in (each.key, each.value)
        ]
        numbers = re.findall(r"\.(\d+)\.", found[0][0])
        if (
            layer is None
            or not numbers
            or not re.search(r"\.\d+\.", found[1][0])
            or _keras_internals.rotary_embedding(layer) is None
            or not all(
                _keeps_order(projection, hook)
                for projection, (_, hook) in zip((each.key, each.value), found)
            )
        ):
            raise ValueError(
                "Expected a decoder with rotary positions, such as Llama, "
                "Mistral, Gemma or Qwen: with learned positions, PEFT's "
                "prefixes and prompts give tokens other ones. Received: "
                f"{received} for '{each.path}' of model={model.name!r}. "
                "Save with `adapters.save`, or use `LoRA`."
            )
        places.append((int(numbers[0]), each.path, layer))
    return [(path, layer) for _, path, layer in sorted(places, key=_number)]


def _number(place):
    return place[0]


def _keeps_order(projection, hook) -> bool:
    layer = projection.layer
    view = kernel_view(layer)
    _, columns, _ = rows_and_columns(
        projection.path, layer, hook, view.inputs, view.outputs
    )
    return np.array_equal(columns, np.arange(view.outputs))


def _rotated(layer, key, start) -> np.ndarray:
    """Keys `(length, heads, size)`, all rotated to one position."""
    rotate = _keras_internals.rotary_embedding(layer)
    x = ops.convert_to_tensor(key[:, None], "float32")
    return np.array(ops.convert_to_numpy(rotate(x, start)))[:, 0]


def _key_there(layer, key) -> np.ndarray:
    """Keys as in Hugging Face, shifted by the length of the prefix."""
    size = key.shape[-1]
    # At position zero a layer reorders, if it does, and rotates nothing.
    numbers = np.broadcast_to(np.arange(size, dtype="float32"), key.shape)
    order = _rotated(layer, numbers, 0)[0, 0].astype(int)
    plain = np.empty_like(key)
    plain[..., order] = key
    moved = _rotated(layer, plain, len(key))
    there = np.empty_like(key)
    there[..., order] = moved
    return there
