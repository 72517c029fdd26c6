"""Saves adapters as a small folder and loads them onto the same base."""

import hashlib
import json
import os
import pathlib

import keras
import numpy as np
import safetensors
import safetensors.numpy
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter_folder import require_new
from keras_debias.adapters.adapter_folder import write_folder
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.peft_folder import load_peft
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import unwrap
from keras_debias.adapters.selection import variable_paths
from keras_debias.layers.adapted_layer import AdaptedLayer

FORMAT = "keras_debias.adapter/1"
CONFIG_NAME = "adapter.json"
WEIGHTS_NAME = "adapter.safetensors"


def fingerprint(layer: keras.Layer, adapters: list) -> str:
    """A digest of the pretrained values that adapters were made for.

    Over the values rounded to bfloat16, so that a base loaded at half
    precision still counts as the same base.
    """
    values = {}
    for adapter in adapters:
        values.update(adapter.base(layer))
    digest = hashlib.sha256()
    # The kernel first, alone for what changes no bias.
    for name in sorted(values, key=lambda name: (name != "kernel", name)):
        rounded = ops.cast(ops.cast(values[name], "bfloat16"), "float32")
        rounded = np.ascontiguousarray(ops.convert_to_numpy(rounded), "<f4")
        digest.update(rounded.tobytes())
    return digest.hexdigest()


def _states(path: str, layer: keras.Layer) -> dict:
    return {
        f"{path}/{name}": variable
        for adapter in adapters_of(layer)
        for name, variable in adapter.state(layer).items()
    }


def describe(model: keras.Model) -> dict:
    """The adapters of a model as JSON: settings, layers, what trains."""
    model = unwrap(model)
    groups: dict[int, dict] = {}
    for path, layer in adapted_layers(model).items():
        for adapter in adapters_of(layer):
            config = keras.saving.serialize_keras_object(adapter)
            group = groups.setdefault(
                id(adapter), {"adapter": config, "layers": []}
            )
            group["layers"].append(path)
    return {
        "adapters": list(groups.values()),
        "trainable": [
            path for path, v in variable_paths(model).items() if v.trainable
        ],
    }


def _targeted(group: dict):
    """The adapter of a group, aimed at exactly the group's layers."""
    adapter = keras.saving.deserialize_keras_object(group["adapter"])
    adapter.targets = tuple(group["layers"])
    return adapter


def restore(model: keras.Model, description: dict) -> None:
    """Puts described adapters on a model: structure only, no weights."""
    paths = layer_paths(model)
    for group in description["adapters"]:
        adapter = _targeted(group)
        for path in group["layers"]:
            layer = paths[path]
            adapter.attach(layer, adapter.placeholder(layer))
    trainable = set(description["trainable"])
    for path, variable in variable_paths(model).items():
        variable.trainable = path in trainable
    _keras_internals.drop_compiled_functions(model)


def save(
    model: keras.Model, folder: str | os.PathLike, overwrite: bool = False
) -> None:
    """Saves the adapters of a model, and whatever else trains, to a folder.

    The folder holds `adapter.safetensors` (the factors, for PiSSA with the
    starting ones, and the head) and `adapter.json` (settings, paths, shapes
    and a fingerprint of each base kernel). The base itself is not saved.

    Args:
        model: an adapted `keras.Model`, or a `DebiasedModel` around one.
        folder: path. The folder to make.
        overwrite: bool. Whether an existing folder may be replaced. Defaults
            to `False`.

    Raises:
        ValueError: If the model has no adapters, a value is not finite, or
            the folder exists and `overwrite` is `False`.

    Example:

    ```python
    kd.adapters.save(classifier, "adapter/")
    ```
    """
    layers = require_adapters(
        model, "Call `adapters.apply` first; merged models save as usual."
    )
    model = unwrap(model)
    folder = pathlib.Path(folder)
    require_new(folder, overwrite)
    tensors = {}
    for path, layer in layers.items():
        tensors.update(_states(path, layer))
    rest = {p: v for p, v in _rest(model).items() if p not in tensors}
    tensors.update(rest)
    arrays = {
        # A copy: safetensors writes the buffer, whatever the strides.
        path: np.array(ops.convert_to_numpy(_plain(v)), order="C")
        for path, v in tensors.items()
    }
    _require_finite(arrays)
    config = {
        "format": FORMAT,
        "model": _architecture(model),
        **describe(model),
        "rest": list(rest),
        "variables": {
            path: {
                "shape": list(array.shape),
                "dtype": str(tensors[path].dtype),
            }
            for path, array in arrays.items()
        },
        "base": {
            path: fingerprint(x, adapters_of(x)) for path, x in layers.items()
        },
    }
    write_folder(folder, arrays, WEIGHTS_NAME, config, CONFIG_NAME)


def _plain(variable):
    """A value NumPy and safetensors know: bfloat16 travels as float32."""
    if variable.dtype == "bfloat16":
        return ops.cast(variable.value, "float32")
    return variable.value


def _rest(model) -> dict[str, keras.Variable]:
    """What trains beside the factors, with the state of those layers."""
    state = set()
    for layer in _keras_internals.flatten_layers(model):
        weights = _keras_internals.created_trainable(layer)
        if any(v.trainable for v in weights) and not isinstance(
            layer, AdaptedLayer
        ):
            state |= {id(v) for v in _keras_internals.created_state(layer)}
    return {
        path: v
        for path, v in variable_paths(model).items()
        if v.trainable or id(v) in state
    }


def _architecture(model) -> dict:
    backbone = getattr(model, "backbone", None)
    return {
        "class": type(model).__name__,
        "backbone": type(backbone).__name__ if backbone is not None else None,
    }


def _require_finite(arrays: dict) -> None:
    for path, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                "Expected finite values. Received: "
                f"'{path}' holds {np.sum(~np.isfinite(array))} that are NaN "
                "or infinite."
            )


def load(
    model: keras.Model, folder: str | os.PathLike, trainable: bool = False
) -> keras.Model:
    """Loads adapters onto a model that has none, all or nothing.

    Reads what `save` wrote, and folders of PEFT (`adapter_config.json` with
    `adapter_model.safetensors`) that hold LoRA, DoRA or BEFT, for architectures
    whose Hugging Face weight names KerasHub knows.

    Args:
        model: a built `keras.Model` with the base weights that the adapter
            was made for.
        folder: path. The folder to read.
        trainable: bool. Whether what was saved trains again; otherwise the
            whole model is frozen. Defaults to `False`.

    Returns:
        The model.

    Raises:
        ValueError: If the folder is missing, truncated, made for another
            architecture or base, has extra, missing or non-finite tensors,
            or the model has adapters already. The model is unchanged then.

    Example:

    ```python
    classifier = keras_hub.models.TextClassifier.from_preset(
        preset, num_classes=3
    )
    kd.adapters.load(classifier, "adapter/")
    ```
    """
    model = unwrap(model)
    folder = pathlib.Path(folder)
    if adapted_layers(model):
        raise ValueError(
            "Expected a model without adapters. Received: "
            f"model={model.name!r}, which has some. Load onto a fresh model, "
            "or `adapters.merge` this one first."
        )
    if (folder / "adapter_config.json").exists():
        load_peft(model, folder, trainable)
        return model
    config, arrays = _read(folder)
    paths = layer_paths(model)
    _check_layers(model, config, paths, folder)
    plan = _check_tensors(model, config, arrays, paths, folder)

    # Nothing below can fail.
    for group in config["adapters"]:
        adapter = _targeted(group)
        for path in group["layers"]:
            layer = paths[path]
            adapter.attach(layer, adapter.placeholder(layer))
            for name, variable in adapter.state(layer).items():
                variable.assign(arrays[f"{path}/{name}"])
    for variable, array in plan:
        variable.assign(array)
    chosen = set(config["trainable"]) if trainable else set()
    for path, variable in variable_paths(model).items():
        variable.trainable = path in chosen
    reset_training(model)
    return model


def _read(folder: pathlib.Path) -> tuple[dict, dict]:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ValueError(
                "Expected `folder` to be an adapter folder with "
                f"{CONFIG_NAME} and {WEIGHTS_NAME}, or a PEFT folder with "
                f"adapter_config.json. Received: folder={str(folder)!r}, "
                f"which has no {name}."
            )
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
        known = config["format"] == FORMAT
        config["adapters"], config["variables"], config["base"]
        config["trainable"], config["rest"], config["model"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeError) as error:
        raise ValueError(
            f"Expected a whole {CONFIG_NAME}. Received: {str(folder)!r}, "
            f"whose file cannot be read ({error!r}). Save the adapter again."
        ) from error
    if not known:
        raise ValueError(
            f"Expected the format {FORMAT!r}. Received: {config['format']!r}. "
            "Another version of this library wrote the folder."
        )
    try:
        arrays = safetensors.numpy.load_file(folder / WEIGHTS_NAME)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"Expected a whole {WEIGHTS_NAME}. Received: {str(folder)!r}, "
            f"whose file cannot be read ({error}). Save the adapter again."
        ) from error
    return config, arrays


def _check_layers(model, config, paths, folder) -> None:
    wanted = [p for group in config["adapters"] for p in group["layers"]]
    missing = [p for p in wanted if p not in paths]
    if missing:
        made_for = config["model"]
        raise ValueError(
            f"Expected an adapter for {_architecture(model)}. Received: "
            f"{str(folder)!r}, made for {made_for}, whose layers {missing[:3]}"
            " are not in this model. Load the matching architecture."
        )
    for group in config["adapters"]:
        adapter = _targeted(group)
        for path in group["layers"]:
            if not adapter.accepts(paths[path]):
                raise ValueError(
                    f"Expected '{path}' to be a layer that {adapter!r} can "
                    f"adapt. Received: `{type(paths[path]).__name__}`."
                )
            adapter.check(path, paths[path])
    adapters: dict[str, list] = {}
    for group in config["adapters"]:
        for path in group["layers"]:
            adapters.setdefault(path, []).append(_targeted(group))
    others = [
        path
        for path, members in adapters.items()
        if fingerprint(paths[path], members) != config["base"][path]
    ]
    if others:
        raise ValueError(
            "Expected the base weights that the adapter was made for. "
            f"Received: a model whose weights differ in {len(others)} of "
            f"{len(wanted)} adapted layers, first '{others[0]}'. Load the "
            "original base (not a merged or fine-tuned one) first."
        )


def _check_tensors(model, config, arrays, paths, folder) -> list:
    """Checks names, shapes and values; returns what to assign."""
    expected = config["variables"]
    missing, extra = set(expected) - set(arrays), set(arrays) - set(expected)
    if missing or extra:
        raise ValueError(
            f"Expected exactly the tensors that {CONFIG_NAME} lists. "
            f"Received: {str(folder)!r} with {len(missing)} missing "
            f"{sorted(missing)[:3]} and {len(extra)} extra "
            f"{sorted(extra)[:3]}. Save the adapter again."
        )
    _require_finite(arrays)
    shapes = {}
    for group in config["adapters"]:
        adapter = _targeted(group)
        for path in group["layers"]:
            for name, shape in adapter.state_shapes(paths[path]).items():
                shapes[f"{path}/{name}"] = tuple(int(s) for s in shape)
    variables = variable_paths(model)
    plan = []
    for path in config["rest"]:
        if path not in variables:
            raise ValueError(
                f"Expected the model to have the weight '{path}' of the "
                f"adapter. Received: model={model.name!r} without it. Build "
                "the task with the same head."
            )
        shapes[path] = tuple(int(s) for s in variables[path].shape)
        plan.append((variables[path], arrays[path]))
    for path, array in arrays.items():
        if array.shape != shapes.get(path):
            raise ValueError(
                f"Expected the shape {shapes.get(path)} for '{path}'. "
                f"Received: {array.shape}. The adapter was made for another "
                "width, rank or number of classes."
            )
    return plan
