import os

import keras
import numpy as np

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter_folder import atomic_write_folder
from keras_debias.adapters.adapter_folder import check_overwrite
from keras_debias.adapters.apply import head_variables
from keras_debias.adapters.apply import require_adapters
from keras_debias.adapters.checks import as_path
from keras_debias.adapters.ia3 import IA3
from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.adapters.peft_beft import beft_parts
from keras_debias.adapters.peft_ia3 import ia3_parts
from keras_debias.adapters.peft_low_rank import low_rank_parts
from keras_debias.adapters.peft_names import CONFIG_NAME
from keras_debias.adapters.peft_names import HEADS
from keras_debias.adapters.peft_names import PREFIX
from keras_debias.adapters.peft_names import WEIGHTS_NAME
from keras_debias.adapters.peft_names import prefix_of
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.peft_prefix import TENSOR
from keras_debias.adapters.peft_prefix import prefix_parts
from keras_debias.adapters.peft_prompt import prompt_parts
from keras_debias.adapters.savable import require_savable
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.prefixed_attention import PrefixedAttention
from keras_debias.layers.prompted_block import PromptedBlock
from keras_debias.utils.networks import network_of


def export_peft(
    model: keras.Model,
    folder: str | os.PathLike,
    prefix: str | None = None,
    overwrite: bool = False,
    base_model_name_or_path: str | None = None,
) -> None:
    """Writes adapters in the form of the PEFT library.

    `LoRA` (also rank-stabilized), `LoRAFA`, `DoRA`, `VeRA` and `IA3` are
    written as they are, and so are `PrefixTuning` and `PromptTuning` of
    decoders with rotary positions. `AdaLoRA` and `RandomEntries` become LoRA.
    `PiSSA`, `MiLoRA`, `OLoRA`, `CorDA` and `LoRAGA` become LoRA of twice the
    rank, for the unchanged base. Value, query and key biases in any form
    become BEFT, with their change as one vector for each projection. If
    Hugging Face keeps several projections in one weight, such as query, key
    and value of GPT-2, they become one adapter that computes the same. The
    head is written to `modules_to_save`, under its name in Transformers.

    Servers that read folders of PEFT, such as vLLM, read the folders of
    low-rank adapters.

    Args:
        model: a KerasHub task or backbone with such adapters, or a
            `DebiasedModel` around one.
        folder: path. The folder to make.
        prefix: string. Prefix that the Hugging Face class puts before the
            names of the backbone's modules, such as `"bert."`. Defaults to
            `None`: that of the class with the same task, such as
            `BertForSequenceClassification` or `GPT2LMHeadModel`; for a
            backbone alone, the names in the checkpoints that KerasHub reads.
        overwrite: bool. Whether an existing folder may be replaced. Defaults
            to `False`.
        base_model_name_or_path: string. The base on the Hugging Face hub, or
            in a folder. PEFT's `AutoPeftModel`, `transformers` and vLLM look
            there; `PeftModel.from_pretrained` needs none. Defaults to `None`.

    Raises:
        ValueError: If the model has other adapters or none, KerasHub does not
            know its Hugging Face names, a value is not finite, or the folder
            exists and `overwrite` is `False`.
        TypeError: If `prefix` or `base_model_name_or_path` is not a string.

    Example:

    ```python
    kd.adapters.export_peft(classifier, "adapter/")
    bert = BertForSequenceClassification.from_pretrained(name, num_labels=3)
    peft.PeftModel.from_pretrained(bert, "adapter/")
    ```
    """
    layers = require_adapters(model, "Call `adapters.apply` first.")
    model, folder = network_of(model), as_path(folder)
    check_overwrite(folder, overwrite)
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(
            "Expected `prefix` to be a string such as 'bert.', or `None`. "
            f"Received: prefix={prefix!r}"
        )
    if prefix and not prefix.endswith("."):
        raise ValueError(
            "Expected `prefix` to end with a dot, as 'bert.' does: module "
            f"names follow. Received: prefix={prefix!r}"
        )
    base = base_model_name_or_path
    if base is not None and (not isinstance(base, str) or not base):
        raise TypeError(
            "Expected `base_model_name_or_path` to be a string such as "
            f"'google-bert/bert-base-uncased', or `None`. Received: {base!r}"
        )
    require_savable(model)
    prefixed = all(isinstance(x, PrefixedAttention) for x in layers.values())
    prompted = all(isinstance(x, PromptedBlock) for x in layers.values())
    for path, layer in layers.items():
        known = original_class(layer) is not None or prefixed or prompted
        if not known or len(adapters_of(layer)) > 1:
            refuse_export(path, layer)
    kinds = [adapters_of(layer)[0] for layer in layers.values()]
    parts = beft_parts
    if any(isinstance(each, LowRankAdapter) for each in kinds):
        parts = low_rank_parts
    elif any(isinstance(each, IA3) for each in kinds):
        parts = ia3_parts
    elif prefixed:
        parts = prefix_parts
    elif prompted:
        parts = prompt_parts
    if prefix is None:
        prefix = prefix_of(model)
    tensors, config = parts(model, layers, prefix)
    head = head_tensors(model)
    tensors = {
        # What belongs to no module is named in full.
        name
        if name.startswith("base_model.") or name == TENSOR
        else PREFIX + name: value
        for name, value in {**tensors, **head}.items()
    }
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise ValueError(
                "Expected finite values. Received: "
                f"'{name}' holds some that are NaN or infinite."
            )
    config = {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "modules_to_save": sorted({n.split(".")[0] for n in head}) or None,
        "task_type": _task_type(model),
        **config,
    }
    atomic_write_folder(folder, tensors, WEIGHTS_NAME, config, CONFIG_NAME)


def _task_type(model) -> str | None:
    """What PEFT calls the task of a model."""
    tasks = {"CausalLM": "CAUSAL_LM", "TextClassifier": "SEQ_CLS"}
    names = [c.__name__ for c in type(model).__mro__]
    return next((tasks[name] for name in names if name in tasks), None)


def head_tensors(model) -> dict[str, np.ndarray]:
    """The weights of the head by their Hugging Face names."""
    if not head_variables(model):
        return {}
    for name in [c.__name__ for c in type(model).__mro__]:
        if name in HEADS:
            head = {}
            for attribute, key in HEADS[name].items():
                layer = getattr(model, attribute)
                kernel = as_array(layer.kernel).T
                head[f"{key}.weight"] = np.ascontiguousarray(kernel)
                if layer.bias is not None:
                    head[f"{key}.bias"] = as_array(layer.bias)
            return head
    raise ValueError(
        "Expected a task whose head Hugging Face has too, or none. Received: "
        f"model={model.name!r}, a `{type(model).__name__}`. Export its "
        "`backbone` alone."
    )
