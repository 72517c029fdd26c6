"""Reads VeRA folders of the PEFT library, as LoRA that computes the same."""

import pathlib
import re

import keras
import numpy as np

from keras_debias.adapters.peft_names import PREFIX
from keras_debias.adapters.peft_names import find_module
from keras_debias.adapters.peft_names import own_layer
from keras_debias.adapters.peft_names import owners
from keras_debias.adapters.peft_names import weights_by_module
from keras_debias.adapters.peft_update import PeftUpdate
from keras_debias.linalg import kernel_view


def vera_updates(
    model: keras.Model, notes: list, tensors: dict, folder: pathlib.Path
) -> tuple[list[PeftUpdate], dict]:
    """The updates as low-rank factors, and the remaining tensors.

    PEFT draws its random factors with torch, so `VeRA` cannot draw the same
    ones. Therefore the product is read, as factors of its own rank.

    Raises:
        ValueError: If the folder has no random factors, or they do not fit.
    """
    factors = [tensors.get(f"base_model.vera_{side}") for side in "AB"]
    if any(x is None or x.ndim != 2 for x in factors):
        raise ValueError(
            "Expected the random factors 'base_model.vera_A' and "
            f"'base_model.vera_B'. Received: {str(folder)!r} without. Save "
            "the adapter in PEFT with `save_projection=True`."
        )
    vectors: dict[str, dict] = {}
    rest = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(
            r"(.+)\.vera_lambda_([bd])(?:\.[^.]+)?", name.removeprefix(PREFIX)
        )
        if found is not None:
            vectors.setdefault(found.group(1), {})[found.group(2)] = tensor
        elif not name.startswith("base_model.vera_"):
            rest[name.removeprefix(PREFIX)] = tensor
    if not vectors:
        raise ValueError(
            "Expected tensors named `....vera_lambda_d` and "
            f"`....vera_lambda_b`. Received: {str(folder)!r}, which has "
            f"{sorted(tensors)[:3]}. Save the adapter again."
        )
    weights, owned = weights_by_module(notes), owners(model)
    updates = []
    for module, pair in vectors.items():
        parts = weights[find_module(weights, module, folder)]
        layers = [own_layer(model, owned, v, module)[1] for v, _ in parts]
        if not all(hasattr(layer, "kernel") for layer in layers):
            raise ValueError(
                "Expected an adapter for `Dense` or `EinsumDense` layers. "
                f"Received: {str(folder)!r} with tensors for '{module}', "
                f"which is `{type(layers[0]).__name__}` here. Leave it out "
                "of PEFT's `target_modules`."
            )
        inputs = kernel_view(layers[0]).inputs
        a, b = factors
        updates.append(_update(module, pair, a, b, inputs, folder))
    return updates, rest


def _update(module, pair, a, b, inputs, folder):
    rank, outputs = a.shape[0], pair.get("b", np.zeros(0)).size
    fits = (
        set(pair) == {"b", "d"}
        and pair["d"].shape == (rank,)
        and pair["b"].ndim == 1
        and a.shape[1] >= inputs
        and b.shape[1] == rank
        and b.shape[0] >= outputs
    )
    if not fits:
        shapes = {f"vera_lambda_{k}": v.shape for k, v in sorted(pair.items())}
        raise ValueError(
            f"Expected vectors for '{module}' that fit the random factors of "
            f"{a.shape} and {b.shape}. Received: {shapes} in "
            f"{str(folder)!r}. The files do not belong together."
        )
    a = pair["d"][:, None].astype("float64") * a[:, :inputs]
    b = pair["b"][:, None].astype("float64") * b[:outputs]
    if rank > min(inputs, outputs):
        # The kernel limits the rank: the same product in fewer factors.
        u, s, vt = np.linalg.svd(b @ a, full_matrices=False)
        b, a = u * s, vt
    return PeftUpdate(
        module, a.astype("float32"), b.astype("float32"), alpha=len(a)
    )
