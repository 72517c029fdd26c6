import dataclasses

import keras
import numpy as np
from keras import ops

from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.selection import layer_paths
from keras_debias.analysis.ablation import require_floats
from keras_debias.analysis.ablation import without_directions
from keras_debias.data.batches import Batches
from keras_debias.data.split import Split
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.linalg import kernel_view
from keras_debias.utils.gradients import recorded_gradients
from keras_debias.utils.networks import network_of
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class BiasNeuron(ShortRepr):
    """A feed-forward neuron that increases the scores of wrong labels.

    Attributes:
        path: string. The feed-forward output layer that reads it.
        index: int. Its row in the kernel of that layer.
        attribution: float. By how much the margin of the best wrong label
            falls without it, to first order.

    Example:

    >>> BiasNeuron("block_0/output_dense", index=3, attribution=0.2).index
    3
    """

    path: str
    index: int
    attribution: float


class _WrongMargin(keras.losses.Loss):
    """Probability of the best wrong label minus that of the row's own."""

    def call(self, y_true, y_pred):
        chances = ops.softmax(ops.cast(y_pred, "float32"), axis=-1)
        if len(y_true.shape) == 1 or y_true.shape[-1] == 1:
            flat = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            y_true = ops.one_hot(flat, chances.shape[-1])
        gold = ops.cast(y_true, "float32")
        own = ops.sum(chances * gold, axis=-1)
        own = own / ops.maximum(ops.sum(gold, axis=-1), 1.0)
        return ops.max(chances * (1.0 - gold), axis=-1) - own


def find_bias_neurons(
    model: keras.Model,
    split: Split,
    count: int = 10,
    samples: int = 20,
    seed: int = 0,
) -> list[BiasNeuron]:
    """The feed-forward neurons that raise wrong labels the most.

    The attribution of a neuron is its activation times the gradient of the
    margin (probability of the best wrong label minus that of the label),
    summed over tokens and averaged over the samples: the first-order effect
    of removing it. `prune_neurons` removes what is found.

    Args:
        model: a `LabelWordClassifier` or another classifier of transformer
            blocks that returns logits, or a `DebiasedModel` around one.
        split: `Split` with labels.
        count: int. How many neurons at most. Defaults to `10`.
        samples: int. How many rows, drawn by `seed`. Defaults to `20`.
        seed: int. Defaults to `0`.

    Returns:
        List of `BiasNeuron`, the largest attribution first, all above zero.

    Raises:
        ValueError: If `split` has no labels or not so many rows, `count` or
            `samples` is below one, the model has no transformer blocks, or
            their kernels are quantized.
        TypeError: If `split` is not a `Split`.

    Example:

    ```python
    found = kd.analysis.find_bias_neurons(classifier, train)
    kd.analysis.prune_neurons(classifier, found)
    ```

    Reference:
        CRISPR: Yang et al., Mitigating biases for instruction-following
        language models via bias neurons elimination, ACL 2024. The paper
        takes the maximum over tokens where this is their sum.
    """
    require_model(model)
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `kd.data.Split`. Received: "
            f"split={split!r}"
        )
    network = network_of(model)
    if split.y is None or not 1 <= samples <= len(split) or count < 1:
        raise ValueError(
            "Expected a split with labels, `count` of at least one and "
            f"`samples` from 1 to its {len(split)} rows. Received: "
            f"{split!r}, count={count}, samples={samples}"
        )
    names = getattr(model, "label_names", None)
    if names is not None and split.label_names is not None:
        split = split.align_labels(names)
    rows = split.sample(samples, seed=seed)
    paths = {id(x): path for path, x in layer_paths(network).items()}
    layers = [
        layer
        for block in blocks(network)
        for layer in block.modules["feedforward_output"]
    ]
    has_preprocessor = getattr(network, "preprocessor", None) is not None
    batches = Batches(
        rows.x,
        rows.y,
        batch_size=1,
        preprocess=network.preprocess_samples if has_preprocessor else None,
    )
    for layer in layers:
        require_floats(paths[id(layer)], layer)
    gradients = recorded_gradients(
        network, batches, [layer.kernel for layer in layers], _WrongMargin()
    )
    found = []
    for layer, gradient in zip(layers, gradients, strict=True):
        view = kernel_view(layer)
        matrix = view.to_matrix(ops.cast(layer.kernel.value, "float32"))
        if isinstance(layer, LowRankUpdate):
            a, b = layer.update_factors()
            matrix = matrix + ops.matmul(a, b) * layer.lora_gate * layer.scaling
        gradient = view.to_matrix(ops.convert_to_tensor(gradient))
        product = ops.convert_to_numpy(matrix * gradient)
        effects = np.array(product).sum(axis=1) / samples
        found += [
            BiasNeuron(paths[id(layer)], int(i), float(effects[i]))
            for i in np.argsort(-effects)[:count]
        ]
    found.sort(key=lambda neuron: -neuron.attribution)
    return [neuron for neuron in found[:count] if neuron.attribution > 0]


def prune_neurons(model: keras.Model, neurons: list[BiasNeuron]) -> None:
    """Removes neurons in place: sets their rows in the kernels to zero.

    In layers with LoRA or PiSSA, those of the update as well; merge other
    updates first.

    Args:
        model: the model in which they were found.
        neurons: list of `BiasNeuron`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a neuron is not in the model, a kernel is quantized, or
            its update is not a product of factors. The model is unchanged
            then.

    Example:

    >>> network = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, name="out")]
    ... )
    >>> prune_neurons(network, [BiasNeuron("out", index=1, attribution=0.2)])
    >>> ops.convert_to_numpy(network.layers[0].kernel)[1].tolist()
    [0.0, 0.0, 0.0]
    """
    require_model(model)
    if not isinstance(neurons, (list, tuple)) or not all(
        isinstance(neuron, BiasNeuron) for neuron in neurons
    ):
        raise TypeError(
            "Expected `neurons` to be a list of `BiasNeuron`, as "
            f"`find_bias_neurons` returns. Received: neurons={neurons!r}"
        )
    layers = layer_paths(network_of(model))
    chosen: dict[str, list[int]] = {}
    for neuron in neurons:
        layer = layers.get(neuron.path)
        is_known = layer is not None and original_class(layer) is not None
        if not is_known or not 0 <= neuron.index < kernel_view(layer).inputs:
            raise ValueError(
                "Expected neurons of this model. Received: "
                f"{neuron!r}, which is not in model={model.name!r}"
            )
        chosen.setdefault(neuron.path, []).append(neuron.index)
    changes = []
    for path, indices in chosen.items():
        # What the layer reads from a neuron is a direction of its inputs.
        width = kernel_view(layers[path]).inputs
        rows = np.zeros((width, len(set(indices))), "float32")
        rows[sorted(set(indices)), np.arange(rows.shape[1])] = 1.0
        changes += without_directions(path, layers[path], rows, "read")
    for variable, value in changes:
        variable.assign(value)
