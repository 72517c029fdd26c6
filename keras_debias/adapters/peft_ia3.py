"""Reads and writes IA3 folders of the PEFT library."""

import pathlib
import re

import keras
import numpy as np

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.ia3 import IA3
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
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.linalg import kernel_view


def load_ia3(model: keras.Model, folder: pathlib.Path, trainable: bool) -> None:
    """Loads an IA3 folder of PEFT onto a KerasHub model, all or nothing.

    `adapters.load` calls it. Whether a vector scales inputs or outputs is
    read off its shape: a row for inputs, a column for outputs.

    Args:
        model: a built KerasHub task or backbone without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the vectors and the head train.

    Raises:
        ValueError: If the folder is broken or does not fit the model. The
            model is unchanged then.
    """
    vectors, rest = {}, {}
    for name, tensor in read_tensors(folder, model).items():
        name = name.removeprefix(PREFIX)
        match = re.fullmatch(r"(.+)\.ia3_l(?:\.[^.]+)?", name)
        if match is None:
            rest[name] = tensor
        else:
            vectors[match.group(1)] = tensor
    if not vectors:
        raise ValueError(
            "Expected tensors named `....ia3_l`. Received: "
            f"{str(folder)!r}, which has {sorted(rest)[:3]}. Save the "
            "adapter again."
        )
    notes = import_map(model)
    owned, weights = owners(model), weights_by_module(notes)
    chosen = {"inputs": [], "outputs": []}
    for module, vector in vectors.items():
        side = _side(module, vector, folder)
        parts = weights[find_module(weights, module, folder)]
        layers = [own_layer(model, owned, v, module) for v, _ in parts]
        adapter = IA3(feedforward=("*",) if side == "inputs" else ())
        for path, layer in layers:
            if not adapter.accepts(layer):
                raise ValueError(
                    "Expected vectors for dense layers. Received: "
                    f"{str(folder)!r} with one for '{module}', which is "
                    f"`{type(layer).__name__}` here. Leave it out of PEFT's "
                    "`target_modules`."
                )
            adapter.check(path, layer)
        views = [kernel_view(layer) for _, layer in layers]
        inputs, outputs = views[0].inputs, sum(v.outputs for v in views)
        expected = inputs if side == "inputs" else outputs
        if vector.size != expected:
            raise ValueError(
                f"Expected a vector of {expected} entries for '{module}'. "
                f"Received: {str(folder)!r} with the shape {vector.shape}. "
                "Load the architecture and size that it was made for."
            )
        for (path, layer), (_, hook) in zip(layers, parts):
            rows, columns, _ = rows_and_columns(
                path, layer, hook, inputs, outputs
            )
            order = rows if side == "inputs" else columns
            chosen[side].append((path, layer, vector.reshape(-1)[order]))
    head = plan_head(model, notes, rest, folder)

    with unchanged_on_error(model, [v for v, _ in head]):
        trained = []
        for side, members in chosen.items():
            if not members:
                continue
            paths = tuple(path for path, _, _ in members)
            names = (paths, ()) if side == "outputs" else ((), paths)
            adapter = IA3(*names)
            for _, layer, value in members:
                adapter.attach(layer, None)
                layer.ia3_scale.assign(value)
                trained.append(layer.ia3_scale)
        finish_load(model, trained, head, trainable)


def _side(module, vector, folder) -> str:
    """`"inputs"` if PEFT's vector is a row, `"outputs"` if it is a column."""
    if vector.ndim == 2 and vector.shape[1] == 1:
        return "outputs"
    if vector.ndim == 2 and vector.shape[0] == 1:
        return "inputs"
    raise ValueError(
        "Expected a vector of shape (1, inputs) or (outputs, 1) for "
        f"'{module}'. Received: {str(folder)!r} with the shape "
        f"{vector.shape}. Save the adapter again."
    )


def ia3_parts(
    model: keras.Model, layers: dict, prefix: str
) -> tuple[dict, dict]:
    """The tensors and settings of an IA3 folder, for `export_peft`.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Comes before the names of modules.
    """
    tensors, feedforward = {}, []
    modules = modules_of(model, layers, prefix)
    for module in modules:
        sides = set()
        for place in module.places:
            (adapter,) = adapters_of(place.layer)
            if not isinstance(adapter, IA3):
                refuse_export(place.path, place.layer)
            sides.add(place.layer.transform.side)
        if sides == {"outputs"}:
            vector = np.ones(module.outputs, "float32")
            for place in module.places:
                vector[place.columns] = as_array(place.layer.ia3_scale)
            tensors[f"{module.name}.ia3_l"] = vector[:, None]
            continue
        (place, *more) = module.places
        if more or module.others:
            # One vector for the inputs of all kernels of the module.
            refuse_export(place.path, place.layer)
        vector = np.empty(len(place.rows), "float32")
        vector[place.rows] = as_array(place.layer.ia3_scale)
        tensors[f"{module.name}.ia3_l"] = vector[None]
        feedforward.append(module.name)
    return tensors, {
        "peft_type": "IA3",
        "init_ia3_weights": True,
        "fan_in_fan_out": any(module.is_transposed for module in modules),
        "target_modules": [n.removesuffix(".ia3_l") for n in tensors],
        "feedforward_modules": feedforward,
    }
