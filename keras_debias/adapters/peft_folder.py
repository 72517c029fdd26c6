"""Reads the LoRA folders of the PEFT library."""

import dataclasses
import json
import os
import pathlib
import re

import keras
import numpy as np
import safetensors
import safetensors.numpy
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.apply import head_variables
from keras_debias.adapters.apply import reset_training
from keras_debias.adapters.apply import set_trainable
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

# Starts that leave the base as it was. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA
# move a part of it into the factors.
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")

# Settings that say nothing about what the tensors mean, or are read below.
# Any other one must be off: an unknown option may change the computation.
_HARMLESS = {
    *("peft_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("task_type", "inference_mode", "peft_version", "runtime_config"),
    *("r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern"),
    *("use_rslora", "target_modules", "exclude_modules", "fan_in_fan_out"),
    *("layers_to_transform", "layers_pattern", "modules_to_save"),
    *("init_lora_weights", "eva_config", "corda_config", "lora_ga_config"),
    *("loftq_config", "megatron_core", "qalora_group_size"),
    "ensure_weight_tying",
}

# Heads of text classifiers that compute the same as in Hugging Face's
# `...ForSequenceClassification`. KerasHub imports heads of image models only.
_HEADS = {
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


@dataclasses.dataclass(frozen=True)
class _Update:
    """The update of one PEFT module: `scale * B A` on an HF weight."""

    module: str
    a: np.ndarray
    b: np.ndarray
    alpha: float


def load_peft(
    model: keras.Model, folder: str | os.PathLike, trainable: bool
) -> None:
    """Loads a LoRA folder of PEFT onto a KerasHub model, all or nothing.

    `adapters.load` calls it for folders with an `adapter_config.json`. The
    names of layers and the order of the axes of their kernels come from
    KerasHub's own importer of Hugging Face checkpoints. A weight that
    Hugging Face keeps in one piece and KerasHub in several (query, key and
    value of GPT-2) gives several adapted layers, each with its own copy of
    `A`: the outputs are the same, and further training has more parameters.

    The head is loaded where the folder has one (`modules_to_save`) and left
    as it is otherwise. PEFT stores no fingerprint of the base: that it is
    the one the adapter was made for cannot be checked, except by shape.

    Args:
        model: a built KerasHub task or backbone without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the factors and the head train; otherwise
            the whole model is frozen.

    Raises:
        ValueError: If the folder is broken, uses anything but plain LoRA on
            an unchanged base, or does not fit the model. The model is
            unchanged then.
    """
    folder = pathlib.Path(folder)
    config = _read_config(folder)
    _check_config(config, folder)
    tensors = _read_tensors(folder)
    updates, rest = _pair(config, tensors, folder)
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
    plan = _plan_layers(model, notes, updates, config, folder)
    head = _plan_head(model, notes, rest, folder)

    # Nothing below can fail.
    chosen = []
    for adapter, layers in plan:
        for layer, a, b in layers:
            adapter.attach(layer, None)
            layer.lora_a.assign(a)
            layer.lora_b.assign(b)
            chosen += [layer.lora_a, layer.lora_b]
    for variable, array in head:
        variable.assign(array)
    set_trainable(model, chosen + _head_weights(model) if trainable else [])
    reset_training(model)


def _head_weights(model) -> list[keras.Variable]:
    """The weights of the head, without state such as moving averages."""
    state = {
        id(variable)
        for layer in _keras_internals.flatten_layers(model)
        for variable in _keras_internals.created_state(layer)
    }
    return [v for v in head_variables(model) if id(v) not in state]


def _read_config(folder: pathlib.Path) -> dict:
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
        config["peft_type"], int(config["r"]), float(config["lora_alpha"])
        float(config.get("lora_dropout", 0.0))
        for name in ("rank_pattern", "alpha_pattern"):
            for pattern, value in (config.get(name) or {}).items():
                re.compile(pattern), float(value)
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        re.error,
    ) as error:
        raise ValueError(
            f"Expected a whole {CONFIG_NAME} of a LoRA adapter. Received: "
            f"{str(folder)!r}, whose file cannot be read ({error!r}). Save "
            "the adapter again with PEFT's `save_pretrained`."
        ) from error
    return config


def _check_config(config: dict, folder: pathlib.Path) -> None:
    def refuse(received, way_out):
        raise ValueError(
            "Expected a plain LoRA adapter of PEFT. Received: "
            f"{str(folder)!r} with {received}. {way_out}"
        )

    if config["peft_type"] != "LORA":
        refuse(
            f"peft_type={config['peft_type']!r}",
            "Only LoRA can be read. Where PEFT can convert it, use "
            "`peft.convert_to_lora`; or merge it in PEFT and use the merged "
            "weights.",
        )
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        refuse(
            f"init_lora_weights={start!r}, which changed the base weights",
            "Save it in PEFT as an adapter of the original base: "
            "`save_pretrained(folder, "
            "path_initial_model_for_weight_conversion=...)`.",
        )
    if config.get("bias", "none") != "none":
        refuse(
            f"bias={config['bias']!r}",
            "Trained biases of the base cannot be read. Merge the adapter in "
            "PEFT and use the merged weights.",
        )
    if config.get("use_dora"):
        refuse(
            "use_dora=True",
            "Merge it in PEFT and use the merged weights, or train with "
            "`use_dora=False`.",
        )
    for name, value in config.items():
        if name not in {*_HARMLESS, "bias", "use_dora"} and value:
            refuse(
                f"{name}={value!r}",
                "This option cannot be read. Merge the adapter in PEFT and "
                "use the merged weights.",
            )


def _read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(
            f"Expected `folder` to hold {WEIGHTS_NAME}. Received: "
            f"folder={str(folder)!r}, which has none. Save the adapter with "
            "PEFT's `save_pretrained(folder, safe_serialization=True)`; "
            "pickled files (`adapter_model.bin`) are not read."
        )
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"Expected a whole {WEIGHTS_NAME}. Received: {str(folder)!r}, "
            f"whose file cannot be read ({error}). Copy or save it again."
        ) from error
    tensors = {k: np.asarray(v, "float32") for k, v in tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"Expected finite values. Received: {str(folder)!r}, whose "
                f"tensor '{name}' holds {np.sum(~np.isfinite(tensor))} that "
                "are NaN or infinite. Train again from a sound state."
            )
    return tensors


def _pair(
    config: dict, tensors: dict, folder: pathlib.Path
) -> tuple[list[_Update], dict[str, np.ndarray]]:
    """The updates, and the tensors that belong to none."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    rest = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("base_model.model.")
        # An adapter name between, as in a plain `state_dict`, is accepted.
        match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.[^.]+)?\.weight", name)
        if match is None:
            rest[name] = tensor
            continue
        module, letter = match.groups()
        if letter in factors.setdefault(module, {}):
            raise ValueError(
                "Expected one adapter. Received: "
                f"{str(folder)!r} with several tensors for lora_{letter} of "
                f"'{module}'. Save each adapter to a folder of its own."
            )
        factors[module][letter] = tensor
    embeddings = [name for name in rest if ".lora_embedding_" in name]
    if embeddings:
        raise ValueError(
            "Expected LoRA on dense layers only. Received: "
            f"{str(folder)!r} with an adapted embedding {embeddings[0]!r}. "
            "Merge the adapter in PEFT, or leave embeddings out of "
            "`target_modules`."
        )
    if not factors:
        raise ValueError(
            "Expected tensors named `....lora_A.weight` and "
            f"`....lora_B.weight`. Received: {str(folder)!r}, which has "
            f"{sorted(tensors)[:3]}. Save the adapter again."
        )
    updates = []
    for module, pair in factors.items():
        rank = _by_pattern(config, "rank_pattern", module, config["r"])
        alpha = _by_pattern(
            config, "alpha_pattern", module, config["lora_alpha"]
        )
        shapes = {f"lora_{k}": v.shape for k, v in sorted(pair.items())}
        if (
            set(pair) != {"A", "B"}
            or any(tensor.ndim != 2 for tensor in pair.values())
            or not pair["A"].shape[0] == pair["B"].shape[1] == rank
        ):
            raise ValueError(
                f"Expected lora_A of shape ({rank}, inputs) and lora_B of "
                f"shape (outputs, {rank}) for '{module}', as {CONFIG_NAME} "
                f"says. Received: {shapes} in {str(folder)!r}. The files do "
                "not belong together, or the adapter is not plain LoRA on a "
                "dense layer."
            )
        updates.append(_Update(module, pair["A"], pair["B"], alpha))
    return updates, rest


def _by_pattern(config: dict, name: str, module: str, default):
    """PEFT's per-module settings: the first regular expression that fits."""
    for pattern, value in (config.get(name) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


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


def _plan_layers(model, notes, updates, config, folder) -> list:
    """`(adapter, [(layer, A, B), ...])` for each distinct setting."""
    paths = layer_paths(model)
    owners = {}
    for path, layer in paths.items():
        for variable in _keras_internals.created_trainable(layer):
            owners.setdefault(id(variable), (path, layer))
    weights: dict[str, list] = {}
    for variable, key, hook in notes:
        if key.endswith(".weight"):
            key = key.removesuffix(".weight")
            weights.setdefault(key, []).append((variable, hook))

    planned: dict[tuple, list] = {}
    used: dict[str, str] = {}
    for update in updates:
        for name in (update.module, _old_name(update.module)):
            found = [key for key in weights if _matches(key, name)]
            if name in found:
                found = [name]
            if found:
                break
        if len(found) != 1:
            listed = ", ".join(found or list(weights)[:8])
            raise ValueError(
                "Expected an adapter for modules of this model. Received: "
                f"{str(folder)!r} with tensors for '{update.module}', which "
                f"is {'ambiguous' if found else 'not in it'}: {listed}"
                f"{'' if found else ', ...'}. Load the architecture that the "
                "adapter was made for."
            )
        adapter = LoRA(
            rank=int(update.a.shape[0]),
            alpha=update.alpha,
            dropout=config.get("lora_dropout", 0.0),
            rank_stabilized=bool(config.get("use_rslora")),
        )
        group = planned.setdefault(tuple(adapter.settings.values()), [])
        columns_seen = []
        if found[0] in used:
            raise ValueError(
                "Expected one update for each module. Received: "
                f"{str(folder)!r} with tensors for '{update.module}' and "
                f"'{used[found[0]]}', which mean the same here. Save the "
                "adapter again."
            )
        used[found[0]] = update.module
        for variable, hook in weights[found[0]]:
            path, layer = owners.get(id(variable), (None, None))
            if layer is None:
                raise ValueError(
                    "Expected a model in its original form. Received: "
                    f"model={model.name!r}, whose '{update.module}' is "
                    "quantized or changed by `enable_lora`. Load the adapter "
                    "onto a fresh model."
                )
            if not adapter.accepts(layer):
                raise ValueError(
                    "Expected an adapter for `Dense` or `EinsumDense` "
                    f"layers. Received: {str(folder)!r} with tensors for "
                    f"'{update.module}', which is "
                    f"`{type(layer).__name__}` here. Leave it out of PEFT's "
                    "`target_modules`, or merge the adapter in PEFT."
                )
            adapter.check(path, layer)
            rows, columns = _rows_and_columns(path, layer, hook, update)
            columns_seen.append(columns)
            a, b = update.a.T[rows], update.b.T[:, columns]
            group.append((path, layer, a, b))
        columns = np.sort(np.concatenate(columns_seen))
        if not np.array_equal(columns, np.arange(update.b.shape[0])):
            raise ValueError(
                "Expected each output of an adapted module in exactly one "
                f"kernel. Received: '{update.module}' with "
                f"{update.b.shape[0]} outputs, of which this model has "
                f"{len(columns)}. Merge the adapter in PEFT and convert the "
                "merged weights instead."
            )
    return [
        (
            LoRA(*settings[:4], targets=tuple(member[0] for member in group)),
            [member[1:] for member in group],
        )
        for settings, group in planned.items()
    ]


def _rows_and_columns(path, layer, hook, update) -> tuple:
    """Which inputs and outputs of an HF weight a kernel holds, in order.

    Feeds the importer's hook the numbers of the entries in place of the
    weight and reads off where they went.
    """
    inputs, outputs = update.a.shape[1], update.b.shape[0]
    view = kernel_view(layer)
    shape = list(view.shape)
    # `(outputs, inputs)`, or the other way about in GPT-2's `Conv1D`.
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
        except Exception:
            continue
        if list(np.shape(kernel)) != shape:
            continue
        kernel = np.array(kernel, dtype="int32")
        matrix = ops.convert_to_numpy(view.to_matrix(kernel))
        rows, columns = matrix[:, 0] % inputs, matrix[0] // inputs
        together = rows[:, None] + inputs * columns[None, :]
        every_input = np.array_equal(np.sort(rows), np.arange(inputs))
        if every_input and np.array_equal(matrix, together):
            return rows, columns
    raise ValueError(
        "Expected tensors of the model's own sizes. Received: lora_A of "
        f"shape {update.a.shape} and lora_B of shape {update.b.shape} for "
        f"'{update.module}', which do not fit the kernel of '{path}' "
        f"({view.inputs} x {view.outputs}). Load the architecture and size "
        "that the adapter was made for."
    )


def _plan_head(model, notes, rest: dict, folder: pathlib.Path) -> list:
    """`(variable, value)` for each weight of the head, `[]` without one."""
    if not rest:
        return []
    weights = {id(v): v for v in head_variables(model)}
    sources = {id(v): (key, hook) for v, key, hook in notes}
    for name in [c.__name__ for c in type(model).__mro__]:
        for attribute, key in _HEADS.get(name, {}).items():
            layer = getattr(model, attribute)
            sources[id(layer.kernel)] = (f"{key}.weight", lambda x, _: x.T)
            if layer.bias is not None:
                sources[id(layer.bias)] = (f"{key}.bias", None)
    sources = {k: sources[k] for k in weights if k in sources}

    unknown = set(rest) - {key for key, _ in sources.values()}
    if unknown:
        raise ValueError(
            "Expected no tensors beside the LoRA factors but those of the "
            f"head of this model. Received: {str(folder)!r} with "
            f"{sorted(unknown)}, which `{type(model).__name__}` has no "
            "place for. Load onto the task with the same head, or save in "
            "PEFT without `modules_to_save`."
        )
    plan = []
    for key, variable in weights.items():
        name, hook = sources.get(key, (None, None))
        if name not in rest:
            raise ValueError(
                "Expected the whole head. Received: "
                f"{str(folder)!r} with {sorted(rest)}, without a tensor for "
                f"'{variable.path}'. List all modules of the head in PEFT's "
                "`modules_to_save`."
            )
        value, shape = rest[name], [int(size) for size in variable.shape]
        value = value if hook is None else hook(value, shape)
        if list(value.shape) != shape:
            raise ValueError(
                f"Expected a head of shape {tuple(shape)} for "
                f"'{variable.path}'. Received: '{name}' of shape "
                f"{rest[name].shape}. Build the task with the same number "
                "of classes."
            )
        plan.append((variable, value))
    return plan
