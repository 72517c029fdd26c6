"""The updates of a model's kernels by fine-tuning, as factors."""

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.kernel_adapter import KernelAdapter
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.class_swap import original_class
from keras_debias.linalg import kernel_view
from keras_debias.utils.networks import network_of


def adapter_updates(model: keras.Model) -> dict[str, tuple]:
    """Factors `(P, Q)` of the update of each adapted kernel, by path."""
    updates = {}
    for path, layer in adapted_layers(model).items():
        if original_class(layer) is None:
            continue
        found = [
            adapter.kernel_update(layer)
            for adapter in adapters_of(layer)
            if isinstance(adapter, KernelAdapter)
        ]
        if len(found) > 1:
            found = [(sum(p if q is None else p @ q for p, q in found), None)]
        if found:
            updates[path] = found[0]
    if not updates:
        raise ValueError(
            "Expected a model with adapters of kernels, such as LoRA, or "
            "`base`, the model before fine-tuning. Received: "
            f"model={network_of(model).name!r}, which has none."
        )
    return updates


def model_updates(model: keras.Model, base) -> dict[str, tuple]:
    """Differences of kernels between two models, as `(change, None)`.

    `base` is the model before, or what `kernels` gave of it.
    """
    after = kernels(model)
    before = kernels(base) if isinstance(base, keras.Model) else dict(base)
    if set(after) != set(before):
        mismatched = sorted(set(after) ^ set(before))
        raise ValueError(
            "Expected two models with the same dense layers. Received: "
            f"{len(mismatched)} that only one of them has, such as "
            f"{mismatched[:3]}."
        )
    for path, matrix in after.items():
        if matrix.shape != before[path].shape:
            raise ValueError(
                f"Expected the same shapes in both models. Received: '{path}' "
                f"with {matrix.shape} after and {before[path].shape} before."
            )
    return {
        path: (matrix.astype("float64") - before[path], None)
        for path, matrix in after.items()
    }


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    """All kernels of dense layers, with the updates of their adapters.

    Args:
        model: a `keras.Model`, or a `DebiasedModel` around one. Layers that
            are not built are left out.

    Returns:
        A dict from path to float32 array of shape `(inputs, outputs)`.

    Example:

    >>> network = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, name="out")]
    ... )
    >>> {path: kernel.shape for path, kernel in kernels(network).items()}
    {'out': (2, 3)}
    """
    require_model(model)
    found = {}
    for path, layer in layer_paths(network_of(model)).items():
        if original_class(layer) is not None and layer.built:
            kernel = (
                layer.merged_kernel()
                if isinstance(layer, AdaptedLayer)
                else _keras_internals.dequantized_kernel(layer)
            )
            matrix = kernel_view(layer).to_matrix(ops.cast(kernel, "float32"))
            found[path] = np.array(ops.convert_to_numpy(matrix))
    return found


def require_finite(updates: dict[str, tuple]) -> None:
    """Raises if the update of a layer is not finite, by its factors."""
    bad = [
        path
        for path, factors in updates.items()
        if not all(np.isfinite(f).all() for f in factors if f is not None)
    ]
    if bad:
        raise ValueError(
            "Expected finite updates. Received: NaN or infinity in "
            f"{len(bad)} of {len(updates)} layers, first '{bad[0]}'. Train "
            "again from a sound state."
        )


def side_factor(update: tuple, side: str) -> np.ndarray:
    """A factor `F` with `F F'` the Gram matrix of an update on a side.

    `U U'` for the side of the inputs, `U' U` for that of the outputs, of the
    update `U`; as narrow as the factors are.
    """
    p, q = update
    if side == "read" and q is None:
        return p if p.shape[1] <= p.shape[0] else _lower(p)
    if q is None:
        q = np.eye(p.shape[1])
    if side == "read":
        return p @ np.linalg.qr(q.T, mode="r").T
    return q.T @ np.linalg.qr(p, mode="r").T


def _lower(matrix):
    """The triangular `L` with `L L'` that of a wide matrix with itself."""
    return np.linalg.qr(matrix.T, mode="r").T
