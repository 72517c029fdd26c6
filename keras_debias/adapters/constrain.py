"""Constrains what trains, so that no update enters a subspace."""

import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.selection import layer_paths
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.directions import Directions
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.stand_alone import trains_base
from keras_debias.linalg import kernel_view
from keras_debias.utils.networks import network_of


def constrain(model: keras.Model, directions: Directions) -> list:
    """Constrains every trained kernel that meets the directions.

    Each adapter constrains its own weights, and reinitializes them if it has
    to. Kernels that train whole keep their part along the directions. If
    anything fails, nothing is changed.

    Args:
        model: a built `keras.Model`.
        directions: the directions.

    Returns:
        The constrained variables.

    Raises:
        ValueError: If no trained kernel meets the directions, some width
            does not fit, a path is not in the model, or an adapter has
            learned along the directions already.
    """
    model = network_of(model)
    paths = layer_paths(model)
    if not directions.shared:
        missing = [path for path in directions.vectors if path not in paths]
        if missing:
            raise ValueError(
                "Expected directions for layers of this model. Received: "
                f"directions for {missing[:3]}, which "
                f"model={model.name!r} does not have."
            )
    changes = []
    for path, layer in paths.items():
        for adapter in adapters_of(layer):
            adapter.check_directions(path, layer)
        if original_class(layer) is None or not layer.built:
            continue
        changes += _changes_of(path, layer, directions)
    if not changes:
        listed = "\n".join(
            f"  {path}"
            for path, layer in paths.items()
            if any(v.trainable for v in layer.variables)
            and original_class(layer) is not None
        )
        raise ValueError(
            "Expected at least one trained kernel that meets the directions. "
            f"Received: {directions!r}, readers={directions.readers}, "
            f"writers={directions.writers}. These dense layers train:\n"
            f"{listed or '  none'}"
        )
    release(model)
    constrained = []
    for change in changes:
        constrained += change()
    # A split layer computes in another way.
    _keras_internals.drop_compiled_functions(model)
    return constrained


def release(model: keras.Model) -> None:
    """Removes the constraints that `constrain` has set."""
    for variable in network_of(model).variables:
        if isinstance(variable.constraint, OrthogonalUpdate):
            variable.constraint = None


def _changes_of(path, layer, directions) -> list:
    adapters = adapters_of(layer)
    kernel_adapters: list = [a for a in adapters if a.trains_kernel]
    weights = [layer.kernel]
    weights += [v for a in kernel_adapters for v in a.state(layer).values()]
    if not any(v.trainable for v in weights):
        return []
    side = directions.role_of(path, adapted=bool(kernel_adapters))
    vectors = directions.of(path)
    if side is None or (vectors is None and not kernel_adapters):
        return []
    if vectors is None:
        raise ValueError(
            "Expected directions for each adapted layer. Received: "
            f"{directions!r} without '{path}'. Adapt the layers for which "
            'they were found, or use `scope="shared"`.'
        )
    check_width(path, layer, vectors, side)
    if not kernel_adapters:
        return [kernel_change(path, layer, vectors, side)]
    changes = [a.constrain(path, layer, vectors, side) for a in kernel_adapters]
    if trains_base(layer):
        changes.append(kernel_change(path, layer, vectors, side))
    return changes


def check_width(path, layer, vectors, side) -> None:
    """Raises unless directions fit a layer."""
    view = kernel_view(layer)
    width = view.inputs if side == "read" else view.outputs
    if vectors.shape[0] != width:
        raise ValueError(
            f"Expected directions of width {width}, the size of the "
            f"{'inputs' if side == 'read' else 'outputs'} of '{path}'. "
            f"Received: width {vectors.shape[0]}. Leave the layer out of "
            "what trains, or give `Directions` other `readers` and `writers`."
        )


def kernel_change(path, layer, vectors, side, start=None):
    """The function that constrains a kernel that trains as a whole.

    `start` is the kernel's pretrained value; defaults to the present one.
    """
    kernel = layer.kernel
    require_free(path, kernel)
    view = kernel_view(layer)
    start = as_array(kernel) if start is None else start
    matrix = matrix_of(view, start).astype("float64")
    v = vectors.astype("float64")
    constraint = OrthogonalUpdate(
        vectors,
        side,
        component=v.T @ matrix if side == "read" else matrix @ v,
        equation=view.equation,
    )

    def change():
        kernel.constraint = constraint
        return [kernel]

    return change


def require_clean(path, update, constraint, scale=0.0) -> float:
    """Raises if an update has entered the directions; returns its length.

    `scale` is the length of the kernel with which the update was rounded.
    """
    p, q = update
    v = constraint.directions.astype("float64")
    if constraint.side == "read":
        leaked = v.T @ p if q is None else (v.T @ p) @ q
    else:
        leaked = p @ v if q is None else p @ (q @ v)
    update = p if q is None else np.linalg.qr(p, mode="r") @ q
    learned, leaked = np.linalg.norm(update), np.linalg.norm(leaked)
    if leaked > max(1e-4 * learned, 1e-6 * scale, 1e-12):
        raise ValueError(
            "Expected an adapter that has learned nothing along the "
            f"directions. Received: '{path}', whose update has "
            f"{leaked / learned:.2g} of its length there. Apply the adapter "
            "to a fresh model, or use `kd.recipes.grasp`."
        )
    return float(learned)


def require_free(path, variable) -> None:
    """Raises if a variable has a constraint of another kind."""
    found = variable.constraint
    if found is not None and not isinstance(found, OrthogonalUpdate):
        raise ValueError(
            "Expected weights without a constraint of their own. Received: "
            f"'{path}/{variable.name}' with {found!r}, which would undo "
            "ours. Build the layer without it."
        )


def matrix_of(view, kernel) -> np.ndarray:
    """A kernel of NumPy as a matrix, inputs x outputs."""
    return np.asarray(
        keras.ops.convert_to_numpy(
            view.to_matrix(keras.ops.convert_to_tensor(kernel))
        )
    )
