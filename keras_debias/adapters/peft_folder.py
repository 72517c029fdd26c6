"""Reads adapter folders of the PEFT library."""

import math
import os
import pathlib
import re

import keras
import numpy as np

from keras_debias.adapters.adapter_folder import read_json
from keras_debias.adapters.all_biases import AllBiases
from keras_debias.adapters.all_biases import bias_terms
from keras_debias.adapters.dora import DoRA
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.patterns import BoundedPattern
from keras_debias.adapters.peft_adalora import adalora_updates
from keras_debias.adapters.peft_beft import load_beft
from keras_debias.adapters.peft_ia3 import load_ia3
from keras_debias.adapters.peft_names import CONFIG_NAME
from keras_debias.adapters.peft_names import find_module
from keras_debias.adapters.peft_names import finish_load
from keras_debias.adapters.peft_names import import_map
from keras_debias.adapters.peft_names import own_layer
from keras_debias.adapters.peft_names import owners
from keras_debias.adapters.peft_names import plan_biases
from keras_debias.adapters.peft_names import plan_head
from keras_debias.adapters.peft_names import read_tensors
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.peft_names import weights_by_module
from keras_debias.adapters.peft_prefix import load_prefix
from keras_debias.adapters.peft_prompt import load_prompt
from keras_debias.adapters.peft_update import PeftUpdate
from keras_debias.adapters.peft_vera import vera_updates
from keras_debias.adapters.undo import unchanged_on_error

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
    *("ensure_weight_tying", "use_dora"),
    *("vera_dropout", "d_initial", "projection_prng_key", "save_projection"),
    "init_weights",
    # How AdaLoRA allocated its ranks.
    *("target_r", "init_r", "tinit", "tfinal", "deltaT", "total_step"),
    *("beta1", "beta2", "orth_reg_weight"),
}


def load_peft(
    model: keras.Model, folder: str | os.PathLike, trainable: bool
) -> None:
    """Loads a folder of PEFT onto a KerasHub model, all or nothing.

    Reads LoRA, DoRA, IA3, prefixes, prompts, and value, query and key biases
    (BEFT). VeRA and AdaLoRA become LoRA with the same product. Biases that
    PEFT trained besides LoRA (`bias="all"`) become `AllBiases`.

    `adapters.load` calls it for folders with an `adapter_config.json`. The
    names of layers and the order of the axes of their kernels come from
    KerasHub's own importer of Hugging Face checkpoints. A weight that
    Hugging Face keeps in one piece and KerasHub in several (query, key and
    value of GPT-2) gives several adapted layers, each with its own copy of
    `A`: the outputs are the same, and further training has more parameters.

    The head is loaded where the folder has one (`modules_to_save`) and left as
    it is otherwise. PEFT stores no fingerprint of the base, so only shapes
    show whether the adapter was made for it.

    Args:
        model: a built KerasHub task or backbone without adapters.
        folder: path. The folder to read.
        trainable: bool. Whether the factors and the head train; otherwise
            the whole model is frozen.

    Raises:
        ValueError: If the folder is broken, holds another kind of adapter or
            one for a changed base, or does not fit the model. The model is
            unchanged then.
    """
    folder = pathlib.Path(folder)
    loaders = {
        "BEFT": load_beft,
        "IA3": load_ia3,
        "PREFIX_TUNING": load_prefix,
        "PROMPT_TUNING": load_prompt,
    }
    other = loaders.get(_peft_type(folder) or "")
    if other is not None:
        other(model, folder, trainable)
        return
    config = _read_config(folder)
    _check_config(config, folder)
    tensors = read_tensors(folder, model)
    notes = import_map(model)
    if config["peft_type"] == "VERA":
        updates, rest = vera_updates(model, notes, tensors, folder)
    elif config["peft_type"] == "ADALORA":
        updates, rest = adalora_updates(config, tensors, folder)
    else:
        updates, rest = _pair(config, tensors, folder)
    biases, rest = plan_biases(model, notes, rest, config.get("bias"))
    biased = _biased_layers(model, biases, folder)
    plan = _plan_layers(model, notes, updates, config, folder)
    head = plan_head(model, notes, rest, folder)
    adapted = {
        id(v)
        for _, layers in plan
        for layer, _ in layers
        for v in layer.weights
    }
    both = [v.path for v, _ in head if id(v) in adapted]
    if both:
        raise ValueError(
            "Expected modules that are adapted or saved whole, not both. "
            f"Received: {str(folder)!r} with both for {both[:3]}. Leave them "
            "out of PEFT's `modules_to_save`, or merge the adapter in PEFT."
        )

    changed = [v for v, _ in (*head, *biases)]
    with unchanged_on_error(model, changed):
        chosen = []
        for adapter, layers in plan:
            for layer, state in layers:
                adapter.attach(layer, None)
                for name, value in state.items():
                    variable = adapter.state(layer)[name]
                    variable.assign(value)
                    chosen.append(variable)
        if biased:
            adapter = AllBiases(inject=False, targets=tuple(biased))
            for layer in biased.values():
                adapter.attach(layer, None)
        for variable, value in biases:
            variable.assign(value)
            chosen.append(variable)
        finish_load(model, chosen, head, trainable)


def _biased_layers(model, biases, folder) -> dict:
    """The layers, by path, whose bias terms a folder has all of."""
    owned, named = owners(model), {id(v) for v, _ in biases}
    found = dict(own_layer(model, owned, v, v.path) for v, _ in biases)
    for path, layer in found.items():
        missing = [v.name for v in bias_terms(layer) if id(v) not in named]
        if missing:
            raise ValueError(
                "Expected all bias terms of a layer, or none. Received: "
                f"{str(folder)!r} without {missing} of '{path}'. Save the "
                "adapter again."
            )
    return found


def _peft_type(folder: pathlib.Path) -> str | None:
    try:
        return read_json(folder / CONFIG_NAME)["peft_type"]
    # Reported by `_read_config`.
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_config(folder: pathlib.Path) -> dict:
    try:
        config = read_json(folder / CONFIG_NAME)
        if not isinstance(config, dict):
            raise ValueError("no object")
        if not isinstance(config["peft_type"], str):
            raise ValueError("`peft_type` is no string")
        _require_number("r", config["r"], int)
        if config["peft_type"] != "VERA":
            _require_number("lora_alpha", config["lora_alpha"])
        for name in ("lora_dropout", "vera_dropout"):
            _require_number(name, config.get(name, 0.0))
        patterns = ("rank_pattern", "alpha_pattern")
        if config["peft_type"] == "ADALORA":
            # Its `rank_pattern` is a mask: the tensors have the ranks.
            patterns = ()
            _require_number("init_r", config["init_r"], int)
        for name in patterns:
            for pattern, value in (config.get(name) or {}).items():
                BoundedPattern(pattern)
                _require_number(name, value)
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        OverflowError,
    ) as error:
        raise ValueError(
            f"Expected a whole {CONFIG_NAME} of a LoRA adapter. Received: "
            f"{str(folder)!r}, whose file cannot be read ({error!r}). Save "
            "the adapter again with PEFT's `save_pretrained`."
        ) from error
    return config


def _require_number(name, value, kind=(int, float)) -> None:
    number = isinstance(value, kind) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(f"`{name}` is {value!r}")


def _check_config(config: dict, folder: pathlib.Path) -> None:
    def refuse(received, way_out):
        raise ValueError(
            "Expected a plain LoRA adapter of PEFT. Received: "
            f"{str(folder)!r} with {received}. {way_out}"
        )

    if config["peft_type"] not in ("LORA", "VERA", "ADALORA"):
        refuse(
            f"peft_type={config['peft_type']!r}",
            "LoRA, DoRA, VeRA, AdaLoRA, IA3, BEFT, prefix and prompt tuning "
            "are read. Where PEFT can convert it, use `peft.convert_to_lora`; "
            "or merge it in PEFT and use the merged weights.",
        )
    start = config.get("init_lora_weights", True)
    if not any(start is x or start == x for x in _PLAIN_STARTS):
        refuse(
            f"init_lora_weights={start!r}, which changed the base weights",
            "Save it in PEFT as an adapter of the original base: "
            "`save_pretrained(folder, "
            "path_initial_model_for_weight_conversion=...)`.",
        )
    biases = ("none", "all", "lora_only", "vera_only")
    if config.get("bias", "none") not in biases:
        refuse(
            f"bias={config['bias']!r}",
            f"It must be one of {biases}. Save the adapter again.",
        )
    for name, value in config.items():
        if name not in {*_HARMLESS, "bias"} and value:
            refuse(
                f"{name}={value!r}",
                "This option cannot be read. Merge the adapter in PEFT and "
                "use the merged weights.",
            )


def _pair(
    config: dict, tensors: dict, folder: pathlib.Path
) -> tuple[list[PeftUpdate], dict[str, np.ndarray]]:
    """The updates, and the remaining tensors."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    magnitudes: dict[str, np.ndarray] = {}
    rest = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("base_model.model.")
        # An adapter name between, as in a plain `state_dict`, is accepted.
        if config.get("use_dora"):
            end = r"\.lora_magnitude_vector(?:(?:\.[^.]+)?\.weight)?"
            if match := re.fullmatch(rf"(.+){end}", name):
                magnitudes[match.group(1)] = tensor
                continue
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
        magnitude = magnitudes.pop(module, None)
        if config.get("use_dora"):
            outputs = pair["B"].shape[:1]
            # A column, in some versions.
            if magnitude is None or magnitude.size != outputs[0]:
                found = None if magnitude is None else magnitude.shape
                raise ValueError(
                    f"Expected a lora_magnitude_vector of shape {outputs} for "
                    f"'{module}', as use_dora=True says. Received: {found} in "
                    f"{str(folder)!r}. Save the adapter again."
                )
            magnitude = magnitude.reshape(outputs)
        updates.append(
            PeftUpdate(module, pair["A"], pair["B"], alpha, magnitude)
        )
    if magnitudes:
        raise ValueError(
            "Expected lora_A and lora_B beside each lora_magnitude_vector. "
            f"Received: {str(folder)!r} with one of {sorted(magnitudes)[:3]} "
            "alone. Save the adapter again."
        )
    return updates, rest


def _by_pattern(config: dict, name: str, module: str, default):
    """PEFT's per-module settings: the first regular expression that fits."""
    for pattern, value in (config.get(name) or {}).items():
        if BoundedPattern(pattern).fits(module):
            return value
    return default


def _plan_layers(model, notes, updates, config, folder) -> list:
    """`(adapter, [(layer, A, B), ...])` for each distinct setting."""
    owned = owners(model)
    weights = weights_by_module(notes)
    adapter_class = DoRA if config.get("use_dora") else LoRA

    planned: dict[tuple, list] = {}
    used: dict[str, str] = {}
    for update in updates:
        found = find_module(weights, update.module, folder)
        adapter = adapter_class(
            rank=int(update.a.shape[0]),
            alpha=update.alpha,
            dropout=config.get("lora_dropout", config.get("vera_dropout", 0.0)),
            rank_stabilized=bool(config.get("use_rslora")),
        )
        settings = {**adapter.get_config(), "targets": None}
        group = planned.setdefault(tuple(settings.items()), [])
        columns_seen = []
        if found in used:
            raise ValueError(
                "Expected one update for each module. Received: "
                f"{str(folder)!r} with tensors for '{update.module}' and "
                f"'{used[found]}', which mean the same here. Save the "
                "adapter again."
            )
        used[found] = update.module
        for variable, hook in weights[found]:
            path, layer = own_layer(model, owned, variable, update.module)
            if not adapter.accepts(layer):
                raise ValueError(
                    "Expected an adapter for `Dense` or `EinsumDense` "
                    f"layers. Received: {str(folder)!r} with tensors for "
                    f"'{update.module}', which is "
                    f"`{type(layer).__name__}` here. Leave it out of PEFT's "
                    "`target_modules`, or merge the adapter in PEFT."
                )
            adapter.check(path, layer)
            rows, columns, _ = rows_and_columns(
                path, layer, hook, update.a.shape[1], update.b.shape[0]
            )
            columns_seen.append(columns)
            state = {
                "lora_a": update.a.T[rows],
                "lora_b": update.b.T[:, columns],
            }
            if update.magnitude is not None:
                state["lora_magnitude"] = update.magnitude[columns]
            group.append((path, layer, state))
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
            adapter_class(
                **{
                    **dict(settings),
                    "targets": tuple(member[0] for member in group),
                }
            ),
            [member[1:] for member in group],
        )
        for settings, group in planned.items()
    ]
