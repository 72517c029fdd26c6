"""Writes low-rank adapters in the form of the PEFT library."""

import collections

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.constrain import matrix_of
from keras_debias.adapters.dora import DoRA
from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.peft_places import modules_of
from keras_debias.adapters.vera import VeRA
from keras_debias.linalg import kernel_view


def low_rank_parts(
    model: keras.Model, layers: dict, prefix: str
) -> tuple[dict, dict]:
    """The tensors and settings of a folder, for `export_peft`.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Comes before the names of modules.
    """
    for path, layer in layers.items():
        (adapter,) = adapters_of(layer)
        if (
            not isinstance(adapter, LowRankAdapter)
            or (adapter.train_bias and layer.base_bias is not None)
            or getattr(adapter, "protected", None) is not None
            or not _is_of_one_kind(layers)
        ):
            refuse_export(path, layer)
    modules = modules_of(model, layers, prefix)
    if isinstance(adapter, VeRA):
        return _vera_parts(modules, adapter)
    return _lora_parts(modules, isinstance(adapter, DoRA))


def _is_of_one_kind(layers) -> bool:
    """Whether one configuration of PEFT can say what all layers have."""
    kinds: set[tuple] = set()
    for layer in layers.values():
        (adapter,) = adapters_of(layer)
        if isinstance(adapter, VeRA):
            kinds.add(("VeRA", adapter.rank, adapter.seed))
        else:
            kinds.add((isinstance(adapter, DoRA),))
    return len(kinds) == 1


def _lora_parts(modules, is_dora):
    layers = [place.layer for m in modules for place in m.places]
    stabilized = all(layer.rank_stabilized for layer in layers)
    tensors, ranks, alphas = {}, {}, {}
    for module in modules:
        name = module.name
        a, b, scale = _factors(module)
        rank = a.shape[1]
        tensors[f"{name}.lora_A.weight"] = _transposed(a)
        tensors[f"{name}.lora_B.weight"] = _transposed(b)
        if is_dora:
            tensors[f"{name}.lora_magnitude_vector"] = _magnitude(module)
        ranks[name] = rank
        # Settings may be scalars of NumPy, which JSON does not hold.
        alphas[name] = float(scale * (rank**0.5 if stabilized else rank))
    rank, alpha = _most_common(ranks), _most_common(alphas)
    return tensors, {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {k: v for k, v in ranks.items() if v != rank},
        "alpha_pattern": {k: v for k, v in alphas.items() if v != alpha},
        "lora_dropout": float(max(layer.dropout for layer in layers)),
        "use_rslora": stabilized,
        "use_dora": is_dora,
        "bias": "none",
        "fan_in_fan_out": any(module.is_transposed for module in modules),
        "target_modules": list(ranks),
    }


def _factors(module) -> tuple:
    """`(A, B, scale)` of a whole module.

    Kernels in one weight share no factors: their `A` are concatenated, and
    each `B` affects only its own outputs.
    """
    many_a, many_b, scales = [], [], []
    for place in module.places:
        a, b = (
            np.array(ops.convert_to_numpy(factor), "float32")
            for factor in place.layer.update_factors()
        )
        there_a = np.empty_like(a)
        there_b = np.zeros((b.shape[0], module.outputs), "float32")
        there_a[place.rows], there_b[:, place.columns] = a, b
        many_a.append(there_a)
        many_b.append(there_b)
        scales.append(place.layer.scaling)
    scale = scales[0] if len(scales) == 1 else 1.0
    if len(scales) > 1:
        many_b = [b * s for b, s in zip(many_b, scales)]
    return np.concatenate(many_a, axis=1), np.concatenate(many_b), scale


def _magnitude(module) -> np.ndarray:
    """The length of each column; that of the kernel where none trains."""
    found = np.empty(module.outputs, "float32")
    for place in module.places:
        found[place.columns] = as_array(place.layer.lora_magnitude)
    for place in module.others:
        kernel = _keras_internals.dequantized_kernel(place.layer)
        matrix = matrix_of(kernel_view(place.layer), kernel)
        found[place.columns] = np.linalg.norm(matrix, axis=0)
    return found


def _vera_parts(modules, adapter):
    """PEFT cuts the factors of the largest layer, without another scale."""
    for module in modules:
        for place in module.places:
            order = (place.rows, place.columns)
            if not module.is_one_kernel or any(
                np.any(np.diff(numbers) != 1) for numbers in order
            ):
                # Cut factors cannot follow another order of inputs or
                # outputs.
                refuse_export(place.path, place.layer)
    layers = {module.name: module.places[0].layer for module in modules}
    views = [kernel_view(layer) for layer in layers.values()]
    inputs = max(view.inputs for view in views)
    outputs = max(view.outputs for view in views)
    factors = {
        name: ops.convert_to_numpy(value)
        for name, value in adapter.form.constants(inputs, outputs).items()
    }
    tensors = {
        "base_model.vera_A": _transposed(factors["vera_a"]),
        "base_model.vera_B": _transposed(factors["vera_b"]),
    }
    for (name, layer), view in zip(layers.items(), views):
        stretch = (inputs / view.inputs) ** 0.5
        d = as_array(layer.vera_lambda_d) * stretch
        tensors[f"{name}.vera_lambda_d"] = d.astype("float32")
        tensors[f"{name}.vera_lambda_b"] = as_array(layer.vera_lambda_b)
    return tensors, {
        "peft_type": "VERA",
        "r": adapter.rank,
        "d_initial": float(adapter.initial_scale),
        "vera_dropout": float(adapter.dropout),
        "projection_prng_key": int(adapter.seed),
        "save_projection": True,
        "bias": "none",
        "target_modules": list(layers),
    }


def _most_common(values: dict):
    return collections.Counter(values.values()).most_common(1)[0][0]


def _transposed(matrix) -> np.ndarray:
    return np.ascontiguousarray(matrix.T, "float32")
