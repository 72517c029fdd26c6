"""Reads AdaLoRA folders of the PEFT library, as LoRA that computes the same."""

import pathlib
import re

from keras_debias.adapters.peft_names import PREFIX
from keras_debias.adapters.peft_update import PeftUpdate

# PEFT always divides by the starting rank plus this number.
_EPSILON = 1e-5


def adalora_updates(
    config: dict, tensors: dict, folder: pathlib.Path
) -> tuple[list[PeftUpdate], dict]:
    """The updates as low-rank factors, and the remaining tensors.

    PEFT saves the triplets that are left of each module; their values go into
    the factors.

    Raises:
        ValueError: If the folder has no triplets, or their shapes differ.
    """
    modules: dict[str, dict] = {}
    rest = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(
            r"(.+)\.lora_([ABE])(?:\.(?!weight$)[^.]+)?(?:\.weight)?",
            name.removeprefix(PREFIX),
        )
        if found is None:
            rest[name.removeprefix(PREFIX)] = tensor
        else:
            modules.setdefault(found.group(1), {})[found.group(2)] = tensor
    updates = []
    for module, parts in modules.items():
        rank = parts["E"].size if "E" in parts else 0
        fits = (
            set(parts) == {"A", "B", "E"}
            and parts["A"].ndim == parts["B"].ndim == 2
            and parts["A"].shape[0] == parts["B"].shape[1] == rank
        )
        if not fits:
            shapes = {f"lora_{k}": v.shape for k, v in sorted(parts.items())}
            raise ValueError(
                "Expected lora_A, lora_B and lora_E of one rank for "
                f"'{module}'. Received: {shapes} in {str(folder)!r}. Save the "
                "adapter again."
            )
        if rank:
            a = (parts["E"].reshape(-1, 1) * parts["A"]).astype("float32")
            scale = config["lora_alpha"] / (config["init_r"] + _EPSILON)
            updates.append(PeftUpdate(module, a, parts["B"], scale * rank))
    if not updates:
        raise ValueError(
            "Expected tensors named `....lora_A`, `....lora_B` and "
            f"`....lora_E`. Received: {str(folder)!r}, which has "
            f"{sorted(tensors)[:3]}. Save the adapter again."
        )
    return updates, rest
