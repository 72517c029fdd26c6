import keras
import numpy as np

from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import remove_adapter
from keras_debias.layers.added_vector import AddedVector


@keras.saving.register_keras_serializable(package="keras_debias")
class OwnVector(Adapter):
    """The adapter of the layers `kd.layers.ValueBias` and `Refine`.

    The layers are created with it; it cannot be applied to others.
    """

    def __init__(self, targets=()):
        super().__init__(targets)

    def accepts(self, layer):
        return isinstance(layer, AddedVector)

    def exclusive_parts(self, layer):
        return {"vector"}

    def check(self, path, layer):
        raise ValueError(
            "Expected a layer that was made with its vector. Received: "
            f"'{path}', in which it is an ordinary weight. Build the model "
            "again."
        )

    def attach(self, layer, prepared):
        """Nothing to do: the layer has its vector."""

    def disabled_values(self, layer):
        return [(layer.bias_gate, 0.0)]

    def merge(self, path, layer, layers):
        remove_adapter(layer, self)
        layer.become_merged()

    def state(self, layer):
        return layer.adapter_state()

    def state_shapes(self, layer):
        return {k: tuple(v.shape) for k, v in layer.adapter_state().items()}

    def base(self, layer) -> dict[str, np.ndarray]:
        # The vector belongs to no other weight.
        return {}
