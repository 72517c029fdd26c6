import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.constrain import check_width
from keras_debias.adapters.kernel_adapter import KernelAdapter
from keras_debias.adapters.merge import assigned
from keras_debias.adapters.selection import layer_paths
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.directions import Directions
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.bias_update import BiasUpdate
from keras_debias.layers.class_swap import original_class
from keras_debias.linalg import kernel_view
from keras_debias.utils.networks import network_of


def ablate(model: keras.Model, directions: Directions) -> list[str]:
    """Removes directions from what a model reads, in place and for good.

    Directional ablation replaces the input `x` of each layer that reads the
    residual stream by `x - V V' x`. These layers are linear, so the kernels
    and adapters are changed instead, to `W - V V' W`. Outputs are those of
    ablated activations, on every backend and in compiled functions, at the
    same speed. Directions of layers that write are removed from their
    kernels, as `W - W V V'`, and from their biases.

    Before training, and together with `projections.Subspace` for the same
    directions, this is ablation during training. It takes plain models and
    models with LoRA or PiSSA; apply other adapters afterwards. Layers that
    read the residual stream and are not dense (a normalization, an embedding
    that is reused as output layer) still see the directions.

    Args:
        model: a built `keras.Model`, with adapters or without.
        directions: `Directions`. Every dense layer of the model that meets
            them counts, adapted or not, trained or not.

    Returns:
        The paths of the layers that were changed.

    Raises:
        TypeError: If `model` or `directions` is of another type.
        ValueError: If no layer meets the directions, a width differs, a kernel
            is quantized, or an adapter cannot be ablated. The model is
            unchanged then.

    Example:

    ```python
    kd.analysis.ablate(classifier, found.directions)
    model = kd.DebiasedModel(
        classifier, projection=kd.projections.Subspace(found.directions)
    )
    ```

    Reference:
        [Arditi et al., 2024](https://arxiv.org/abs/2406.11717), section 2.4
        and appendix E for the equality with orthogonalized weights (there of
        the layers that write).
    """
    paths, changes = _changes(model, directions)
    for variable, value in changes:
        variable.assign(value)
    return paths


@contextlib.contextmanager
def ablated(model: keras.Model, directions: Directions):
    """A context in which directions are ablated: steering at inference.

    See `ablate`. Afterwards all weights are what they were, to the bit.

    Args:
        model: a built `keras.Model`, or a `DebiasedModel` around one.
        directions: `Directions`.

    Returns:
        A context manager, which gives the model.

    Raises:
        ValueError: If no layer meets the directions, or a width differs.

    Example:

    ```python
    with kd.analysis.ablated(naive, found.directions):
        print(kd.evaluate(naive, {"test": test}))
    ```
    """
    _, changes = _changes(model, directions)
    with assigned(changes):
        yield model


def _changes(model, directions) -> tuple[list, list]:
    """Paths, and `(variable, value)` of all that ablation changes."""
    require_model(model)
    if not isinstance(directions, Directions):
        raise TypeError(
            "Expected `directions` to be a `kd.Directions`. Received: "
            f"directions={directions!r}"
        )
    paths, changes = [], []
    for path, layer in layer_paths(network_of(model)).items():
        for adapter in adapters_of(layer):
            adapter.check_directions(path, layer)
        if original_class(layer) is None or not layer.built:
            continue
        side = directions.role_of(path, adapted=bool(_kernel_adapters(layer)))
        vectors = directions.of(path)
        if side is None or vectors is None:
            continue
        check_width(path, layer, vectors, side)
        paths.append(path)
        changes += without_directions(path, layer, vectors, side)
    if not changes:
        raise ValueError(
            "Expected dense layers that meet the directions. Received: "
            f"{directions!r}, readers={directions.readers}, "
            f"writers={directions.writers}, none of which are in the model."
        )
    return paths, changes


def without_directions(path, layer, vectors, side) -> list[tuple]:
    """`(variable, value)` pairs that remove directions from a dense layer.

    Args:
        path: string. Its path.
        layer: the `Dense` or `EinsumDense` layer.
        vectors: float array `(width, k)`, orthonormal.
        side: `"read"` for directions of its inputs, `"write"` of its outputs.

    Raises:
        ValueError: If the kernel is quantized, or an adapter has weights from
            which the directions cannot be removed.
    """
    require_floats(path, layer)
    kernel = OrthogonalUpdate(
        vectors, side, equation=kernel_view(layer).equation
    )
    factor = OrthogonalUpdate(vectors, side)
    found = [(layer.kernel, kernel(layer.kernel))]
    for adapter in _kernel_adapters(layer):
        found += adapter.ablated_values(layer, factor)
    if side == "write":
        if isinstance(layer, BiasUpdate):
            raise ValueError(
                "Expected layers without an adapter of their bias. Received: "
                f"'{path}' with {adapters_of(layer)}, which writes along the "
                "directions as well. Merge it first, or apply it afterwards."
            )
        bias = stored_bias(layer)
        if bias is not None:
            row = ops.reshape(bias.value, (1, -1))
            found.append((bias, ops.reshape(factor(row), bias.shape)))
    return [(v, np.array(ops.convert_to_numpy(value))) for v, value in found]


def require_floats(path, layer) -> None:
    """Raises if the kernel of a layer is quantized."""
    if layer.quantization_mode is not None:
        raise ValueError(
            "Expected kernels of floats. Received: "
            f"'{path}', quantized to {layer.quantization_mode}. Do this "
            "before `quantize`."
        )


def _kernel_adapters(layer) -> list[KernelAdapter]:
    return [a for a in adapters_of(layer) if isinstance(a, KernelAdapter)]
