"""Writes low-rank adapters in the form of the PEFT library."""

import collections

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.dora import DoRA
from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.peft_names import single_modules
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
    modules, found = single_modules(model), []
    for path, layer in layers.items():
        module, hook = modules.get(id(layer.kernel), (None, None))
        (adapter,) = adapters_of(layer)
        if (
            module is None
            or not isinstance(adapter, LowRankAdapter)
            or (adapter.train_bias and layer.base_bias is not None)
            or getattr(adapter, "protected", None) is not None
            or not _is_of_one_kind(layers)
        ):
            refuse_export(path, layer)
        view = kernel_view(layer)
        order = rows_and_columns(path, layer, hook, view.inputs, view.outputs)
        found.append((prefix + module, path, layer, order))
    adapter = adapters_of(found[0][2])[0]
    if isinstance(adapter, VeRA):
        return _vera_parts(found, adapter)
    return _lora_parts(found, isinstance(adapter, DoRA))


def _is_of_one_kind(layers) -> bool:
    """Whether one configuration of PEFT can say what all layers have."""
    kinds = set()
    for layer in layers.values():
        (adapter,) = adapters_of(layer)
        if isinstance(adapter, VeRA):
            kinds.add(("VeRA", adapter.rank, adapter.seed))
        else:
            kinds.add((isinstance(adapter, DoRA),))
    return len(kinds) == 1


def _lora_parts(found, is_dora):
    stabilized = all(layer.rank_stabilized for _, _, layer, _ in found)
    tensors, ranks, alphas = {}, {}, {}
    for module, _, layer, (rows, columns) in found:
        a, b = (
            np.array(ops.convert_to_numpy(factor), "float32")
            for factor in layer.update_factors()
        )
        rank = a.shape[1]
        there_a, there_b = np.empty_like(a), np.empty_like(b)
        there_a[rows], there_b[:, columns] = a, b
        tensors[f"{module}.lora_A.weight"] = _transposed(there_a)
        tensors[f"{module}.lora_B.weight"] = _transposed(there_b)
        if is_dora:
            magnitude = as_array(layer.lora_magnitude)
            there = np.empty_like(magnitude)
            there[columns] = magnitude
            tensors[f"{module}.lora_magnitude_vector"] = there
        ranks[module] = rank
        alphas[module] = layer.scaling * (rank**0.5 if stabilized else rank)
    rank, alpha = _most_common(ranks), _most_common(alphas)
    return tensors, {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {k: v for k, v in ranks.items() if v != rank},
        "alpha_pattern": {k: v for k, v in alphas.items() if v != alpha},
        "lora_dropout": max(layer.dropout for _, _, layer, _ in found),
        "use_rslora": stabilized,
        "use_dora": is_dora,
        "bias": "none",
        "target_modules": list(ranks),
    }


def _vera_parts(found, adapter):
    """PEFT cuts the factors of the largest layer, without another scale."""
    views = [kernel_view(layer) for _, _, layer, _ in found]
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
    for (module, path, layer, order), view in zip(found, views):
        if any(np.any(np.diff(numbers) != 1) for numbers in order):
            # Cut factors cannot follow another order of inputs or outputs.
            refuse_export(path, layer)
        stretch = (inputs / view.inputs) ** 0.5
        d = as_array(layer.vera_lambda_d) * stretch
        tensors[f"{module}.vera_lambda_d"] = d.astype("float32")
        tensors[f"{module}.vera_lambda_b"] = as_array(layer.vera_lambda_b)
    return tensors, {
        "peft_type": "VERA",
        "r": adapter.rank,
        "d_initial": adapter.initial_scale,
        "vera_dropout": adapter.dropout,
        "projection_prng_key": adapter.seed,
        "save_projection": True,
        "bias": "none",
        "target_modules": [module for module, _, _, _ in found],
    }


def _most_common(values: dict):
    return collections.Counter(values.values()).most_common(1)[0][0]


def _transposed(matrix) -> np.ndarray:
    return np.ascontiguousarray(matrix.T, "float32")
