"""Saves adapters as a small folder and loads them onto the same base."""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter import is_moved
from keras_debias.adapters.adapter import keep_statistics
from keras_debias.adapters.adapter import mark_moved
from keras_debias.adapters.adapter import moved_statistics
from keras_debias.adapters.adapter import moving_state
from keras_debias.adapters.adapter_folder import atomic_write_folder
from keras_debias.adapters.adapter_folder import check_overwrite
from keras_debias.adapters.adapter_folder import read_arrays
from keras_debias.adapters.adapter_folder import read_json
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.apply import applied_layers
from keras_debias.adapters.apply import mark_trained
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.apply import set_trainable
from keras_debias.adapters.checks import as_path
from keras_debias.adapters.checks import require_bool
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.copies import refuse_copies
from keras_debias.adapters.description import check_description
from keras_debias.adapters.description import read_adapter
from keras_debias.adapters.peft_folder import load_peft
from keras_debias.adapters.savable import require_savable
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import variable_paths
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.layers.stand_alone import own_adapter
from keras_debias.utils.networks import network_of

FORMAT = "keras_debias.adapter/2"
# The earlier format, without a checksum.
FIRST_FORMAT = "keras_debias.adapter/1"
CONFIG_NAME = "adapter.json"
WEIGHTS_NAME = "adapter.safetensors"


def fingerprint(layer: keras.Layer, adapters: Sequence) -> str:
    """A digest of the pretrained values that adapters were made for.

    Over the values rounded to bfloat16, so that a base loaded at half
    precision still counts as the same base.
    """
    values = {}
    for adapter in adapters:
        values.update(adapter.base(layer))
    digest = hashlib.sha256()
    # The kernel comes first, and alone if no adapter changes the bias.
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
    model = network_of(model)
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
    adapter = read_adapter(group["adapter"])
    adapter.targets = tuple(group["layers"])
    return adapter


def moved(model: keras.Model) -> dict[str, list[str]]:
    """The names of weights that train or have trained, by layer."""
    return {
        path: list(layer.moved_weights)
        for path, layer in {**layer_paths(model), "": model}.items()
        if getattr(layer, "moved_weights", ())
    }


def restore(model: keras.Model, description: dict) -> None:
    """Puts described adapters on a model: structure only, no weights."""
    paths = _with_and_without_name(model, layer_paths(model))
    for group in description["adapters"]:
        adapter = _targeted(group)
        for path in group["layers"]:
            layer = paths[path]
            # The config of the layer has brought its own.
            if type(own_adapter(layer)) is not type(adapter):
                adapter.attach(layer, adapter.placeholder(layer))
    trainable = set(description["trainable"])
    by_path = variable_paths(model)
    for path in by_path:
        by_path[path].trainable = False
    aliases = _with_and_without_name(model, by_path)
    for path in trainable & set(aliases):
        aliases[path].trainable = True
    if description["adapters"]:
        mark_trained(model)
        for path, names in description["moved"].items():
            mark_moved({**paths, "": model}[path], names)
        for path, names in description["starts"].items():
            _make_starts(paths[path], names)
        refuse_copies(model)
    _keras_internals.drop_compiled_functions(model)


def _with_and_without_name(model, by_path: dict) -> dict:
    """Adds the paths that the layers have if the model is built differently.

    Keras leaves out the name of a subclassed model when it rebuilds one.
    """
    name = f"{model.name}/"
    more = {}
    for path, value in by_path.items():
        more[name + path] = more[path.removeprefix(name)] = value
    return {**more, **by_path}


def starts(model: keras.Model) -> dict[str, list[str]]:
    """The names of the starting values that layers keep, by layer."""
    return {
        path: list(layer.initial_values)
        for path, layer in layer_paths(model).items()
        if getattr(layer, "initial_values", {})
    }


def _make_starts(layer, names) -> None:
    """Places for the starting values that a file holds."""
    values = dict(getattr(layer, "initial_values", {}))
    own = _keras_internals.own_trainable_variables(layer)
    own += _keras_internals.own_non_trainable_variables(layer)
    present = {v.name: v for v in own}
    # In the order of the file, which numbers them.
    layer.initial_values = {
        name: values.get(name, as_array(present[name])) for name in names
    }


def _trained(model) -> list[str]:
    """What trains, or trained before the adapter was loaded for inference."""
    moved_ids = _moved_ids(model)
    return [
        path
        for path, v in variable_paths(model).items()
        if v.trainable or id(v) in moved_ids
    ]


def _moved_ids(model) -> set[int]:
    """Ids of what trains or has trained as a whole."""
    return {
        id(v)
        for layer in (model, *_keras_internals.flatten_layers(model))
        for v in _keras_internals.own_trainable_variables(layer)
        if is_moved(layer, v)
    }


def save(
    model: keras.Model, folder: str | os.PathLike, overwrite: bool = False
) -> None:
    """Saves the adapters of a model, and all else that trains, to a folder.

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
    model = network_of(model)
    folder = as_path(folder)
    check_overwrite(folder, overwrite)
    require_savable(model)
    tensors = {}
    for path, layer in layers.items():
        tensors.update(_states(path, layer))
    rest = {p: v for p, v in _rest(model).items() if p not in tensors}
    tensors.update(rest)
    arrays = {
        # A copy: safetensors writes the buffer and ignores strides.
        path: np.array(ops.convert_to_numpy(_plain(v)), order="C")
        for path, v in tensors.items()
    }
    _require_finite(arrays)
    config = {
        "format": FORMAT,
        "model": _architecture(model),
        **describe(model),
        "trainable": _trained(model),
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
    config["checksum"] = checksum(config, arrays)
    atomic_write_folder(folder, arrays, WEIGHTS_NAME, config, CONFIG_NAME)


def _plain(variable):
    """A value that NumPy and safetensors support: bfloat16 as float32."""
    if variable.dtype == "bfloat16":
        return ops.cast(variable.value, "float32")
    return variable.value


def _rest(model) -> dict[str, keras.Variable]:
    """What training has changed besides the factors.

    Weights that train or have trained, the state of their layers, and the
    moving statistics of others.
    """
    chosen = set()
    for layer in (model, *_keras_internals.flatten_layers(model)):
        weights = _keras_internals.own_trainable_variables(layer)
        found = [v for v in weights if v.trainable or is_moved(layer, v)]
        chosen |= {id(v) for v in found}
        state = moving_state(layer) if found else moved_statistics(layer)
        chosen |= {id(v) for v in state}
    return {p: v for p, v in variable_paths(model).items() if id(v) in chosen}


def checksum(config: dict, arrays: dict) -> str:
    """Over all settings and tensors, with names, shapes and dtypes."""
    settings = {k: v for k, v in config.items() if k != "checksum"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        kind = array.dtype.newbyteorder("<")
        head = [name, list(array.shape), kind.name]
        digest.update(json.dumps(head).encode())
        digest.update(np.ascontiguousarray(array, kind).tobytes())
    return digest.hexdigest()


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
    `adapter_model.safetensors`) that hold LoRA, DoRA, VeRA, AdaLoRA, IA3, BEFT,
    prefixes or prompts, for architectures whose Hugging Face weight names
    KerasHub knows.

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
    require_model(model)
    model = network_of(model)
    folder = as_path(folder)
    require_bool("trainable", trainable)
    if applied_layers(model):
        raise ValueError(
            "Expected a model without adapters. Received: "
            f"model={model.name!r}, which has some. Load onto a fresh model, "
            "or `adapters.merge` this one first."
        )
    if (folder / "adapter_config.json").exists():
        load_peft(model, folder, trainable)
        return model
    config, arrays = _read(folder, model)
    paths = layer_paths(model)
    groups = _check_layers(model, config, paths, folder)
    plan = _check_tensors(model, config, arrays, paths, groups, folder)
    _check_whole(config, arrays, folder)
    _check_base(config, paths, groups)

    chosen = set(config["trainable"])
    variables = variable_paths(model)
    whole = {id(variables[p]) for p in chosen & set(variables)}
    with unchanged_on_error(model, [v for v, _ in plan]):
        keep_statistics(model, whole)
        for adapter, members in groups:
            for path in members:
                layer = paths[path]
                if type(own_adapter(layer)) is not type(adapter):
                    adapter.attach(layer, adapter.placeholder(layer))
                for name, variable in adapter.state(layer).items():
                    variable.assign(arrays[f"{path}/{name}"])
        for variable, array in plan:
            variable.assign(array)
        for path, variable in variable_paths(model).items():
            variable.trainable = path in chosen
        # Note what has trained, whether or not it trains again.
        mark_trained(model)
        if not trainable:
            set_trainable(model, [])
            mark_trained(model)
        refuse_copies(model)
        reset_training(model)
    return model


def _read(folder: pathlib.Path, model) -> tuple[dict, dict]:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).exists():
            raise ValueError(
                "Expected `folder` to be an adapter folder with "
                f"{CONFIG_NAME} and {WEIGHTS_NAME}, or a PEFT folder with "
                f"adapter_config.json. Received: folder={str(folder)!r}, "
                f"which has no {name}."
            )
    arrays = None
    try:
        config = read_json(folder / CONFIG_NAME)
        if isinstance(config, dict) and config.get("format") == FIRST_FORMAT:
            arrays = read_arrays(folder / WEIGHTS_NAME, model)
            config = {**config, "format": FORMAT}
            config["checksum"] = checksum(config, arrays)
        # Other versions of the format may have other parts.
        known = not isinstance(config, dict) or config.get("format") == FORMAT
        if known:
            check_description(config)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a whole {CONFIG_NAME}. Received: {str(folder)!r}, "
            f"whose file cannot be read ({error}). Save the adapter again."
        ) from error
    if not known:
        raise ValueError(
            f"Expected the format {FORMAT!r}. Received: "
            f"{config.get('format')!r}. Another version of this library wrote "
            "the folder."
        )
    if arrays is None:
        arrays = read_arrays(folder / WEIGHTS_NAME, model)
    return config, arrays


def _check_layers(model, config, paths, folder) -> list[tuple]:
    """`(adapter, paths)` of each group, none of which has been built."""
    wanted = [p for group in config["adapters"] for p in group["layers"]]
    missing = [p for p in wanted if p not in paths]
    if missing:
        made_for = config["model"]
        raise ValueError(
            f"Expected an adapter for {_architecture(model)}. Received: "
            f"{str(folder)!r}, made for {made_for}, whose layers {missing[:3]}"
            " are not in this model. Load the matching architecture."
        )
    groups, taken = [], set()
    for group in config["adapters"]:
        try:
            adapter = _targeted(group)
        # A class may raise anything for the settings of a file.
        except Exception as error:
            raise ValueError(
                f"Expected an adapter that this library knows. Received: "
                f"{str(folder)!r} with one that cannot be made ({error}). "
                "Import the module that defines it, or save it again."
            ) from error
        groups.append((adapter, group["layers"]))
        for path in group["layers"]:
            layer = paths[path]
            if not adapter.accepts(layer):
                raise ValueError(
                    f"Expected '{path}' to be a layer that {adapter!r} can "
                    f"adapt. Received: `{type(layer).__name__}`."
                )
            if type(own_adapter(layer)) is type(adapter):
                _check_own(path, layer, adapter)
            else:
                adapter.check(path, layer)
            claims = {(path, claim) for claim in adapter.exclusive_parts(layer)}
            if claims & taken:
                raise ValueError(
                    "Expected at most one adapter for the same weights. "
                    f"Received: {str(folder)!r} with two for '{path}'. Save "
                    "the adapter again."
                )
            taken |= claims
    if set(config["base"]) != set(wanted):
        raise ValueError(
            "Expected a fingerprint of the base of each adapted layer. "
            f"Received: {str(folder)!r} with those of {len(config['base'])} "
            f"of {len(set(wanted))}. Save the adapter again."
        )
    return groups


def _check_own(path, layer, adapter):
    """Raises unless a layer was made with the adapter of a file."""

    def settings(each):
        config = each.get_config()
        return {k: v for k, v in config.items() if k != "targets"}

    expected, received = settings(own_adapter(layer)), settings(adapter)
    if expected != received:
        raise ValueError(
            f"Expected an adapter of '{path}' with the settings {expected}, "
            f"with which the layer was made. Received: {received}. Build the "
            "model as it was when saved."
        )


def _check_base(config, paths, groups) -> None:
    adapters: dict[str, list] = {}
    for adapter, members in groups:
        for path in members:
            adapters.setdefault(path, []).append(adapter)
    others = [
        path
        for path, found in adapters.items()
        if fingerprint(paths[path], found) != config["base"][path]
    ]
    if others:
        raise ValueError(
            "Expected the base weights that the adapter was made for. "
            f"Received: a model whose weights differ in {len(others)} of "
            f"{len(adapters)} adapted layers, first '{others[0]}'. Load the "
            "original base (not a merged or fine-tuned one) first."
        )


def _check_whole(config, arrays, folder) -> None:
    if checksum(config, arrays) != config["checksum"]:
        raise ValueError(
            "Expected settings and tensors as they were saved. Received: "
            f"{str(folder)!r}, whose checksum does not fit: the files were "
            "changed, or belong to two folders. Copy or save the adapter "
            "again."
        )


def _check_tensors(model, config, arrays, paths, groups, folder) -> list:
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
    for adapter, members in groups:
        for path in members:
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
        if path not in arrays or path in shapes:
            raise ValueError(
                "Expected a tensor for each weight besides the adapters. "
                f"Received: {str(folder)!r} without one for '{path}' alone. "
                "Save the adapter again."
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
        dtype = expected[path]["dtype"]
        dtype = "float32" if dtype == "bfloat16" else dtype
        listed = tuple(expected[path]["shape"])
        if listed != array.shape or dtype != array.dtype.name:
            raise ValueError(
                f"Expected '{path}' as {CONFIG_NAME} lists it, {dtype} of "
                f"shape {listed}. Received: {array.dtype} of shape "
                f"{array.shape}. Save the adapter again."
            )
    if set(shapes) != set(arrays):
        raise ValueError(
            "Expected a tensor for each weight of the adapters. Received: "
            f"{str(folder)!r} without {sorted(set(shapes) - set(arrays))[:3]}."
            " Save the adapter again."
        )
    unknown = set(config["trainable"]) - set(variables) - set(shapes)
    if unknown:
        raise ValueError(
            "Expected names of weights in what trains. Received: "
            f"{str(folder)!r} with {sorted(unknown)[:3]}, which this model "
            "does not have. Build the task with the same head."
        )
    return plan
