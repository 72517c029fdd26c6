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
from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.adapters.peft_beft import beft_parts
from keras_debias.adapters.peft_low_rank import low_rank_parts
from keras_debias.adapters.peft_names import CONFIG_NAME
from keras_debias.adapters.peft_names import HEADS
from keras_debias.adapters.peft_names import PREFIX
from keras_debias.adapters.peft_names import WEIGHTS_NAME
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.savable import require_savable
from keras_debias.adapters.selection import unwrap
from keras_debias.layers.class_swap import original_class


def export_peft(
    model: keras.Model,
    folder: str | os.PathLike,
    prefix: str = "",
    overwrite: bool = False,
) -> None:
    """Writes low-rank adapters, or biases of attention, for the PEFT library.

    `LoRA` (rank-stabilized too), `LoRAFA`, `DoRA` and `VeRA` are the same
    there; `AdaLoRA` and `RandomEntries` are LoRA. `PiSSA`, `MiLoRA`, `OLoRA`,
    `CorDA` and `LoRAGA` become LoRA of twice the rank, for the base as it is.
    Of value, query and key biases in any form, BEFT gets the change, one
    vector for each projection. The head goes along where Hugging Face has
    the same one.

    Args:
        model: a KerasHub task or backbone with such adapters, or a
            `DebiasedModel` around one.
        folder: path. The folder to make.
        prefix: string. What the Hugging Face class puts before the names of
            the backbone's modules, such as `"bert."`. Defaults to `""`.
        overwrite: bool. Whether an existing folder may be replaced. Defaults
            to `False`.

    Raises:
        ValueError: If the model has other adapters or none, KerasHub does
            not know its Hugging Face names, a value is not finite, or the
            folder exists and `overwrite` is `False`.

    Example:

    ```python
    kd.adapters.export_peft(classifier, "adapter/", prefix="bert.")
    peft.PeftModel.from_pretrained(bert, "adapter/")
    ```
    """
    layers = require_adapters(model, "Call `adapters.apply` first.")
    model, folder = unwrap(model), as_path(folder)
    check_overwrite(folder, overwrite)
    if not isinstance(prefix, str):
        raise TypeError(
            "Expected `prefix` to be a string such as 'bert.'. Received: "
            f"prefix={prefix!r}"
        )
    require_savable(model)
    for path, layer in layers.items():
        if original_class(layer) is None or len(adapters_of(layer)) > 1:
            refuse_export(path, layer)
    low_rank = any(
        isinstance(adapters_of(layer)[0], LowRankAdapter)
        for layer in layers.values()
    )
    parts = low_rank_parts if low_rank else beft_parts
    tensors, config = parts(model, layers, prefix)
    head = _head(model)
    tensors = {
        # What belongs to no module is named in full.
        name if name.startswith("base_model.") else PREFIX + name: value
        for name, value in {**tensors, **head}.items()
    }
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise ValueError(
                "Expected finite values. Received: "
                f"'{name}' holds some that are NaN or infinite."
            )
    config = {
        "base_model_name_or_path": None,
        "inference_mode": True,
        "modules_to_save": sorted({n.rsplit(".", 1)[0] for n in head}) or None,
        "task_type": None,
        **config,
    }
    atomic_write_folder(folder, tensors, WEIGHTS_NAME, config, CONFIG_NAME)


def _head(model) -> dict[str, np.ndarray]:
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
