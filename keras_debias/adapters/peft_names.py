"""What a PEFT folder and a KerasHub model call the same weights."""

import pathlib
import re

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import keep_statistics
from keras_debias.adapters.adapter_folder import read_arrays
from keras_debias.adapters.apply import head_variables
from keras_debias.adapters.apply import mark_trained
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.apply import set_trainable
from keras_debias.adapters.copies import refuse_copies
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
# What PEFT puts before the names of modules.
PREFIX = "base_model.model."

# Heads of text classifiers that compute the same as in Hugging Face's
# `...ForSequenceClassification`. KerasHub imports heads of image models only.
HEADS = {
    "BertTextClassifier": {"output_dense": "classifier"},
    "AlbertTextClassifier": {"output_dense": "classifier"},
    "DistilBertTextClassifier": {
        "pooled_dense": "pre_classifier",
        "output_dense": "classifier",
    },
    "RobertaTextClassifier": {
        "pooled_dense": "classifier.dense",
        "output_dense": "classifier.out_proj",
    },
    "XLMRobertaTextClassifier": {
        "pooled_dense": "classifier.dense",
        "output_dense": "classifier.out_proj",
    },
}

# What Transformers puts before the modules of a backbone in the class for a
# task, by the backbone's class in KerasHub.
PREFIXES = {
    "BertBackbone": "bert.",
    "AlbertBackbone": "albert.",
    "DistilBertBackbone": "distilbert.",
    "RobertaBackbone": "roberta.",
    "ViTBackbone": "vit.",
    "GPT2Backbone": "transformer.",
    **dict.fromkeys(
        (
            *("LlamaBackbone", "MistralBackbone", "GemmaBackbone"),
            *("Gemma3Backbone", "QwenBackbone", "Qwen3Backbone"),
            *("SmolLM3Backbone", "PhiBackbone", "BartBackbone"),
        ),
        "model.",
    ),
}

# Image models got other module names in Transformers 5. Checkpoints, and
# KerasHub's importers, keep the old ones; PEFT has those of its time.
_RENAMED = (
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"\.attention\.q_proj$", ".attention.attention.query"),
    (r"\.attention\.k_proj$", ".attention.attention.key"),
    (r"\.attention\.v_proj$", ".attention.attention.value"),
    (r"\.attention\.o_proj$", ".attention.output.dense"),
    (r"\.mlp\.fc1$", ".intermediate.dense"),
    (r"\.mlp\.fc2$", ".output.dense"),
)


def find_module(weights: dict, module: str, folder: pathlib.Path) -> str:
    """The key of the one Hugging Face weight that a module means."""
    for name in (module, _old_name(module)):
        found = [key for key in weights if _matches(key, name)]
        if name in found:
            found = [name]
        if found:
            break
    if len(found) != 1:
        listed = ", ".join(found or list(weights)[:8])
        raise ValueError(
            "Expected an adapter for modules of this model. Received: "
            f"{str(folder)!r} with tensors for '{module}', which "
            f"is {'ambiguous' if found else 'not in it'}: {listed}"
            f"{'' if found else ', ...'}. Load the architecture that the "
            "adapter was made for."
        )
    return found[0]


def import_map(model: keras.Model) -> list[tuple]:
    """`(variable, Hugging Face key, hook)` of each weight of a model."""
    notes = _keras_internals.hub_import_map(model)
    if notes is None:
        backbone = getattr(model, "backbone", model)
        raise ValueError(
            "Expected a model of an architecture whose Hugging Face names "
            "KerasHub knows. Received: "
            f"model={model.name!r} on `{type(backbone).__name__}`, which has "
            "no import map. Merge the adapter in PEFT (`merge_and_unload`) "
            "and convert the merged weights instead."
        )
    return notes


def owners(model: keras.Model) -> dict:
    """`(path, layer)` by the id of each of a layer's own weights."""
    found = {}
    for path, layer in layer_paths(model).items():
        for variable in _keras_internals.own_trainable_variables(layer):
            found.setdefault(id(variable), (path, layer))
    return found


def weights_by_module(notes: list) -> dict[str, list]:
    """`(variable, hook)` pairs of each module that has a weight."""
    weights: dict[str, list] = {}
    for variable, key, hook in notes:
        if key.endswith(".weight"):
            key = key.removesuffix(".weight")
            weights.setdefault(key, []).append((variable, hook))
    return weights


def refuse_export(path: str, layer: keras.Layer) -> None:
    """Raises for an adapted layer that PEFT has no form for."""
    raise ValueError(
        "Expected adapters that PEFT has too, one for each layer and of one "
        "kind: low-rank ones without trained biases, `IA3`, or biases of "
        "query, key and value projections. Received: "
        f"'{path}' with {adapters_of(layer)}, or a projection that Hugging "
        "Face keeps in one piece with others and that this adapter needs by "
        "itself. Save with `adapters.save`, or `adapters.merge` and convert "
        "the whole model."
    )


def prefix_of(model: keras.Model) -> str:
    """What comes before module names in Transformers' class for a task."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return ""
    names = [c.__name__ for c in type(backbone).__mro__]
    return next((PREFIXES[name] for name in names if name in PREFIXES), "")


def own_layer(model, owned: dict, variable, module: str) -> tuple:
    """`(path, layer)` of a weight of an unchanged layer."""
    path, layer = owned.get(id(variable), (None, None))
    if layer is None:
        raise ValueError(
            "Expected a model in its original form. Received: "
            f"model={model.name!r}, whose '{module}' is quantized or changed "
            "by `enable_lora`. Load the adapter onto a fresh model."
        )
    return path, layer


def _matches(key: str, module: str) -> bool:
    """Whether two names mean the same, but for a leading part of one.

    `bert.encoder...` and `encoder...`: whether there is a prefix depends on
    the class that PEFT wrapped.
    """
    return (
        key == module
        or key.endswith(f".{module}")
        or module.endswith(f".{key}")
    )


def _old_name(module: str) -> str:
    for pattern, replacement in _RENAMED:
        module = re.sub(pattern, replacement, module)
    return module


class _Exact(np.ndarray):
    """Numbers of entries, which a hook's cast to float16 would destroy."""

    def astype(self, *args, **kwargs):
        return self


def rows_and_columns(path, layer, hook, inputs, outputs) -> tuple:
    """Which inputs and outputs of an HF weight a kernel holds, in order.

    Third, whether the weight is inputs x outputs, as in GPT-2's `Conv1D`.

    Feeds the importer's hook the numbers of the entries in place of the
    weight and reads off where they went.
    """
    view = kernel_view(layer)
    shape = list(view.shape)
    # `(outputs, inputs)`, or transposed in GPT-2's `Conv1D`.
    for transposed in (False, True):
        index = np.arange(inputs * outputs, dtype="int32")
        index = index.reshape(outputs, inputs)
        if transposed:
            index = np.ascontiguousarray(index.T)
        try:
            kernel = index
            if hook is not None:
                kernel = hook(index.view(_Exact), shape)
        # What a hook raises on another shape is anyone's guess.
        except Exception:  # noqa: BLE001
            continue
        if list(np.shape(kernel)) != shape:
            continue
        kernel = np.array(kernel, dtype="int32")
        matrix = ops.convert_to_numpy(view.to_matrix(kernel))
        rows, columns = matrix[:, 0] % inputs, matrix[0] // inputs
        together = rows[:, None] + inputs * columns[None, :]
        every_input = np.array_equal(np.sort(rows), np.arange(inputs))
        if every_input and np.array_equal(matrix, together):
            return rows, columns, transposed
    raise ValueError(
        "Expected tensors of the model's own sizes. Received: tensors for a "
        f"module of {inputs} inputs and {outputs} outputs, which do not fit "
        f"the kernel of '{path}' ({view.inputs} x {view.outputs}). Load the "
        "architecture and size that the adapter was made for."
    )


def head_weights(model) -> list[keras.Variable]:
    """The weights of the head, without state such as moving averages."""
    state = {
        id(variable)
        for layer in _keras_internals.flatten_layers(model)
        for variable in _keras_internals.own_non_trainable_variables(layer)
    }
    return [v for v in head_variables(model) if id(v) not in state]


def finish_load(model, trained, head, trainable) -> None:
    """Finishes loading a PEFT folder: sets the head and what trains.

    Args:
        model: the model, with its adapters attached.
        trained: list of the variables that the folder has trained.
        head: list of `(variable, value)`, from `plan_head`.
        trainable: bool. Whether they train again, with the head.
    """
    for variable, array in head:
        variable.assign(array)
    # Note what the folder has trained, whether or not it trains again.
    set_trainable(model, trained + [v for v, _ in head])
    mark_trained(model)
    set_trainable(model, trained + head_weights(model) if trainable else [])
    mark_trained(model)
    keep_statistics(model, {id(v) for v in head_weights(model)})
    refuse_copies(model)
    reset_training(model)


def read_tensors(folder: pathlib.Path, model) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS_NAME
    if not path.exists():
        raise ValueError(
            f"Expected `folder` to hold {WEIGHTS_NAME}. Received: "
            f"folder={str(folder)!r}, which has none. Save the adapter with "
            "PEFT's `save_pretrained(folder, safe_serialization=True)`; "
            "pickled files (`adapter_model.bin`) are not read."
        )
    tensors = read_arrays(path, model)
    for name, tensor in tensors.items():
        if "float" not in tensor.dtype.name:
            raise ValueError(
                "Expected tensors of floats. Received: "
                f"{str(folder)!r}, whose tensor '{name}' is {tensor.dtype}. "
                "Save the adapter again."
            )
    tensors = {k: np.asarray(v, "float32") for k, v in tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"Expected finite values. Received: {str(folder)!r}, whose "
                f"tensor '{name}' holds {np.sum(~np.isfinite(tensor))} that "
                "are NaN or infinite. Train again from a sound state."
            )
    return tensors


def plan_biases(model, notes, rest: dict, bias: str | None) -> tuple:
    """The base weights that PEFT saved with `bias="all"`.

    Args:
        model: the model.
        notes: from `import_map`.
        rest: dict from the name of a tensor to its value.
        bias: string. The setting.

    Returns:
        A list of `(variable, value)`, and the tensors that remain.
    """
    if bias in (None, "none"):
        return [], rest
    # PEFT keeps biases of the head twice more.
    again = r".*\.(original_module|modules_to_save)(\..+)?\.bias"
    rest = {
        name.replace(".base_layer.", "."): value
        for name, value in rest.items()
        if not re.fullmatch(again, name)
    }
    head = {id(v) for v in head_variables(model)}
    plan, others = [], {}
    for name, value in rest.items():
        whole = name.removesuffix("bias") + "weight" in rest
        # The name in old checkpoints and in KerasHub's importers.
        names = (name, name.replace("LayerNorm.bias", "LayerNorm.beta"))
        found = [
            (variable, name, hook)
            for variable, key, hook in notes
            if any(_matches(key, each) for each in names)
            and id(variable) not in head
        ]
        if name.endswith(".bias") and found and not whole:
            plan += found
        else:
            others[name] = value
    return _checked(plan, rest, "bias"), others


def plan_head(model, notes, rest: dict, folder: pathlib.Path) -> list:
    """`(variable, value)` for each weight of the head, `[]` without one."""
    if not rest:
        return []
    weights = {id(v): v for v in head_variables(model)}
    sources = {id(v): (key, hook) for v, key, hook in notes}
    for name in [c.__name__ for c in type(model).__mro__]:
        for attribute, key in HEADS.get(name, {}).items():
            layer = getattr(model, attribute)
            sources[id(layer.kernel)] = (f"{key}.weight", lambda x, _: x.T)
            if layer.bias is not None:
                sources[id(layer.bias)] = (f"{key}.bias", None)
    sources = {k: sources[k] for k in weights if k in sources}

    whole, unknown = _plan_modules(
        notes, set(rest) - {key for key, _ in sources.values()}, rest
    )
    if not set(rest) - set(whole):
        return _checked(list(whole.values()), rest)
    if unknown:
        raise ValueError(
            "Expected only tensors of the adapter and of the head of this "
            f"model. Received: {str(folder)!r} with "
            f"{sorted(unknown)}, which `{type(model).__name__}` has no "
            "place for. Load onto the task with the same head, or save in "
            "PEFT without `modules_to_save`."
        )
    plan = list(whole.values())
    for key, variable in weights.items():
        name, hook = sources.get(key, (None, None))
        if name not in rest:
            raise ValueError(
                "Expected the whole head. Received: "
                f"{str(folder)!r} with {sorted(rest)}, without a tensor for "
                f"'{variable.path}'. List all modules of the head in PEFT's "
                "`modules_to_save`."
            )
        plan.append((variable, name, hook))
    return _checked(plan, rest)


def _plan_modules(notes, names, rest) -> tuple[dict, set]:
    """`modules_to_save` outside the head, such as BERT's pooler.

    Returns:
        `(variable, name, hook)` by name, and the names that are no weight.
    """
    found, unknown = {}, set()
    for name in sorted(names):
        fitting = [note for note in notes if _matches(note[1], name)]
        variables = {id(variable) for variable, _, _ in fitting}
        if len(variables) == 1:
            variable, _, hook = fitting[0]
            found[name] = variable, name, hook
        else:
            unknown.add(name)
    return found, unknown


def _checked(plan, rest, what="head") -> list:
    """`(variable, value)` of a plan, in the shapes of the model."""
    result = []
    for variable, name, hook in plan:
        value, shape = rest[name], [int(size) for size in variable.shape]
        try:
            value = value if hook is None else hook(value, shape)
            fits = list(value.shape) == shape
        # What a hook raises on another shape is anyone's guess.
        except Exception:  # noqa: BLE001
            fits = False
        if not fits:
            raise ValueError(
                f"Expected a {what} of shape {tuple(shape)} for "
                f"'{variable.path}'. Received: '{name}' of shape "
                f"{rest[name].shape}. Build the task with the same number "
                "of classes."
            )
        result.append((variable, value))
    return result
