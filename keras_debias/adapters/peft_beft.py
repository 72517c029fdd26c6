"""Reads and writes BEFT folders of the PEFT library."""

import pathlib

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.key_bias import KeyBias
from keras_debias.adapters.peft_names import PREFIX
from keras_debias.adapters.peft_names import find_module
from keras_debias.adapters.peft_names import finish_load
from keras_debias.adapters.peft_names import import_map
from keras_debias.adapters.peft_names import own_layer
from keras_debias.adapters.peft_names import owners
from keras_debias.adapters.peft_names import plan_head
from keras_debias.adapters.peft_names import read_tensors
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.peft_names import weights_by_module
from keras_debias.adapters.peft_places import modules_of
from keras_debias.adapters.projection_bias import ProjectionBias
from keras_debias.adapters.query_bias import QueryBias
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.adapters.value_bias import ValueBias
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.linalg import kernel_view

_ADAPTERS = {"query": QueryBias, "key": KeyBias, "value": ValueBias}


def load_beft(
    model: keras.Model, folder: pathlib.Path, trainable: bool
) -> None:
    """Loads a BEFT folder of PEFT onto a KerasHub model, all or nothing.

    `adapters.load` calls it. PEFT adds a vector `beft_bias` of shape
    `(1, outputs)` to the output of a linear layer; here it is added to the
    layer's bias, or injected.

    Args:
        model: a built KerasHub task or backbone without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the biases and the head train.

    Raises:
        ValueError: If the folder is broken, has a bias for anything but a
            query, key or value projection, or does not fit the model. The
            model is unchanged then.
    """
    tensors = read_tensors(folder, model)
    vectors, rest = {}, {}
    for name, tensor in tensors.items():
        name = name.removeprefix(PREFIX)
        module, found, _ = name.partition(".beft_bias")
        (vectors if found else rest)[module if found else name] = tensor
    if not vectors:
        raise ValueError(
            "Expected tensors named `....beft_bias`. Received: "
            f"{str(folder)!r}, which has {sorted(tensors)[:3]}. Save the "
            "adapter again."
        )
    notes = import_map(model)
    owned, weights = owners(model), weights_by_module(notes)
    roles = {
        getattr(attention, role).path: role
        for attention in attentions(model)
        for role in _ADAPTERS
    }
    chosen: dict[str, list] = {}
    for module, vector in vectors.items():
        parts = weights[find_module(weights, module, folder)]
        variable, hook = parts[0]
        path, layer = own_layer(model, owned, variable, module)
        if len(parts) > 1 or path not in roles:
            raise ValueError(
                "Expected biases of query, key and value projections. "
                f"Received: {str(folder)!r} with one for '{module}', which "
                f"is '{path}' here. Leave it out of PEFT's `target_modules`."
            )
        view = kernel_view(layer)
        if vector.size != view.outputs or vector.ndim > 2:
            raise ValueError(
                f"Expected a bias of {view.outputs} entries for '{module}'. "
                f"Received: {str(folder)!r} with the shape {vector.shape}. "
                "Load the architecture and size that it was made for."
            )
        _, columns, _ = rows_and_columns(
            path, layer, hook, view.inputs, view.outputs
        )
        ProjectionBias.check(_ADAPTERS[roles[path]](), path, layer)
        value = vector.reshape(-1)[columns]
        chosen.setdefault(roles[path], []).append((path, layer, value))
    head = plan_head(model, notes, rest, folder)

    biases = [
        stored_bias(layer) for group in chosen.values() for _, layer, _ in group
    ]
    changed = [v for v, _ in head] + [b for b in biases if b is not None]
    with unchanged_on_error(model, changed):
        trained = []
        for role, members in chosen.items():
            adapter = _ADAPTERS[role](targets=tuple(p for p, _, _ in members))
            for _, layer, value in members:
                adapter.attach(layer, adapter.placeholder(layer))
                (variable,) = adapter.state(layer).values()
                start = as_array(variable)
                variable.assign(start + value.reshape(start.shape))
                trained.append(variable)
        finish_load(model, trained, head, trainable)


def beft_parts(model, layers: dict, prefix: str) -> tuple[dict, dict]:
    """The tensors and settings of a BEFT folder, for `export_peft`.

    Any form of bias: what is written is its change, one vector for each
    projection.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Comes before the names of modules.
    """
    tensors, targets = {}, []
    for module in modules_of(model, layers, prefix):
        vector = np.zeros(module.outputs, "float32")
        for place in module.places:
            adapter = adapters_of(place.layer)[0]
            is_known = getattr(adapter, "role", None) in _ADAPTERS
            # PEFT adds biases to `torch.nn.Linear` alone.
            if not is_known or module.is_transposed:
                refuse_export(place.path, place.layer)
            vector[place.columns] = _change(place.layer, adapter)
        tensors[f"{module.name}.beft_bias"] = vector[None]
        targets.append(module.name)
    return tensors, {
        "peft_type": "BEFT",
        "init_weights": True,
        "target_modules": targets,
    }


def _change(layer, adapter) -> np.ndarray:
    """What an adapter adds to the bias of a layer, as a vector."""
    if adapter.trains_own_bias(layer):
        bias = stored_bias(layer)
        change = as_array(bias) - layer.initial_values[bias.name]
    else:
        change = ops.convert_to_numpy(layer.bias_delta(adapter.role))
    return np.array(change, "float32").reshape(-1)
