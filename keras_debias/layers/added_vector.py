"""A layer that adds a trained vector, as an adapter."""

import keras
import numpy as np
from keras import ops

from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.stand_alone import make_adapter
from keras_debias.utils.numbers import require_flags


class AddedVector(AdaptedLayer, keras.layers.Layer):
    """Base class of `ValueBias` and `Refine`.

    The vector is kept in float32 and starts at zero.

    Args:
        num_axes: int. How many axes the vector has, the last ones of the
            inputs.
        merged: bool. Whether the vector is an ordinary weight, as after
            `adapters.merge`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    adapter_name = "OwnVector"
    vector_name = "vector"

    def __init__(self, num_axes, merged, **kwargs):
        super().__init__(**kwargs)
        require_flags(merged=merged)
        self.num_axes = num_axes
        self.merged = merged
        self.supports_masking = True
        if not merged:
            self.__dict__["own_adapter"] = make_adapter(self.adapter_name)

    def build(self, input_shape):
        shape = tuple(input_shape[len(input_shape) - self.num_axes :])
        if len(shape) < self.num_axes or None in shape:
            raise ValueError(
                f"Expected inputs whose last {self.num_axes} axes have a size. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.vector = self.add_weight(
            name=self.vector_name,
            shape=shape,
            initializer="zeros",
            dtype="float32",
            autocast=False,
        )
        # A variable: compiled functions see it change.
        self.bias_gate = self.add_weight(
            name="bias_gate",
            shape=(),
            initializer="ones",
            dtype="float32",
            autocast=False,
            trainable=False,
        )
        if not self.merged:
            self.adapters = (self.__dict__["own_adapter"],)

    def call(self, inputs):
        return inputs + ops.cast(self.vector * self.bias_gate, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def become_merged(self) -> None:
        """Makes the vector an ordinary weight."""
        self.merged = True
        self.__dict__.pop("own_adapter", None)

    def adapter_state(self):
        return {self.vector_name: self.vector}

    def reset_updates(self):
        self.vector.assign(np.zeros(self.vector.shape, "float32"))

    def save_own_variables(self, store):
        if self.built:
            self._save_separately = False
            self.check_enabled()
            store["0"] = self.vector

    def load_own_variables(self, store):
        if self.built:
            self.vector.assign(store["0"])

    def get_config(self):
        return {**super().get_config(), "merged": self.merged}
