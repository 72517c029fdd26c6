"""Where adapted kernels are in the modules that PEFT knows."""

import dataclasses

import keras
import numpy as np

from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.peft_names import import_map
from keras_debias.adapters.peft_names import refuse_export
from keras_debias.adapters.peft_names import rows_and_columns
from keras_debias.adapters.peft_names import weights_by_module
from keras_debias.adapters.selection import layer_paths
from keras_debias.linalg import kernel_view


@dataclasses.dataclass(frozen=True)
class Place:
    """An adapted kernel as a part of the weight of a module.

    Args:
        path, layer: the adapted layer.
        rows: int array. Which inputs of the module the kernel's are.
        columns: int array. Which outputs.
    """

    path: str
    layer: keras.Layer
    rows: np.ndarray
    columns: np.ndarray


@dataclasses.dataclass(frozen=True)
class Module:
    """A module of Hugging Face that holds one or more adapted kernels.

    Args:
        name: string.
        outputs: int. Its outputs: those of all its kernels.
        is_transposed: bool. Whether its weight is inputs x outputs.
        places: list of `Place`, the adapted kernels.
        others: list of `Place`, the kernels without an adapter.
    """

    name: str
    outputs: int
    is_transposed: bool
    places: list
    others: list

    @property
    def is_one_kernel(self) -> bool:
        return len(self.places) == 1 and not self.others


def modules_of(model: keras.Model, layers: dict, prefix: str) -> list[Module]:
    """The modules of all adapted layers, in the order of the model.

    Args:
        model: the model.
        layers: its adapted layers by path.
        prefix: string. Comes before the names of modules.

    Raises:
        ValueError: If an adapted kernel is in no module, or cannot be found
            in it.
    """
    by_kernel = {
        id(layer.kernel): (path, layer)
        for path, layer in layer_paths(model).items()
        if is_dense(layer) and layer.built
    }
    found, placed = [], set()
    for name, parts in weights_by_module(import_map(model)).items():
        inside = [
            by_kernel[id(variable)]
            for variable, _ in parts
            if id(variable) in by_kernel
        ]
        whole = len(inside) == len(parts)
        if not whole or not any(path in layers for path, _ in inside):
            continue
        views = [kernel_view(layer) for _, layer in inside]
        outputs = sum(view.outputs for view in views)
        adapted, others, transposed = [], [], False
        for (path, layer), (_, hook), view in zip(inside, parts, views):
            rows, columns, transposed = rows_and_columns(
                path, layer, hook, view.inputs, outputs
            )
            kind = adapted if path in layers else others
            kind.append(Place(path, layer, rows, columns))
            placed.add(path)
        name = with_prefix(name, prefix)
        found.append(Module(name, outputs, transposed, adapted, others))
    for path, layer in layers.items():
        if path not in placed:
            refuse_export(path, layer)
    return found


def with_prefix(name: str, prefix: str) -> str:
    """A module's name with a prefix, which it may have already."""
    return name if name.startswith(prefix) else prefix + name
