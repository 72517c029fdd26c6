"""A layer whose inputs or outputs are transformed."""

import functools

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.adapted_layer import initial
from keras_debias.layers.transforms import Transform
from keras_debias.linalg import kernel_view


class TransformedLayer(AdaptedLayer):
    """A mixin that adds a trained function to `Dense` and `EinsumDense`.

    A `Transform` defines the function; this class holds its weights.
    `activation` becomes the transform of the outputs followed by the layer's
    own activation. So the `call` of the plain layer, quantized or not, needs
    no change.
    """

    transform: Transform

    @property
    def activation(self):
        own = self.__dict__.get("activation")
        if self.transform.side == "inputs":
            return own
        return functools.partial(self._finish, own)

    def _finish(self, own, outputs):
        outputs = self.transformed(outputs)
        return outputs if own is None else own(outputs)

    def call(self, inputs, training=None):
        return super().call(self._entering(inputs))

    def quantized_call(self, inputs, training=None):
        return super().quantized_call(self._entering(inputs))

    def _entering(self, inputs):
        if self.transform.side == "inputs":
            return self.transformed(inputs)
        return inputs

    def transformed(self, x):
        """The transformed inputs or outputs `x` of the layer."""
        return self.transform.apply(
            self.transform_values, x, self.transform_gate.value
        )

    def add_transform(self, transform):
        """Adds the weights of a transform and freezes the layer's own."""
        size = transform_size(self, transform)
        values = transform.initial(size)
        # Not as an attribute: a value is no part of the layer's state.
        self.__dict__["transform"] = transform
        for name, weight in transform.weights(size).items():
            value = values[name]
            if not isinstance(value, keras.initializers.Initializer):
                value = initial(value)
            setattr(self, name, self._add_part(name, weight.shape, value))
        # A variable: compiled functions see it change.
        self.transform_gate = self._add_part(
            "transform_gate", (), keras.initializers.Ones(), trainable=False
        )
        for variable in _keras_internals.base_variables(self).values():
            variable.trainable = False
        for variable in self.adapter_state().values():
            variable.trainable = True

    def _add_part(self, name, shape, value, trainable=True):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=value,
            # Not the dtype of the base, in which small changes would be lost.
            dtype="float32",
            autocast=False,
            trainable=trainable,
        )

    def remove_transform(self):
        """Removes the weights; the caller restores the class."""
        state = self.adapter_state()
        for variable in (*state.values(), self.transform_gate):
            _keras_internals.remove_weight(self, variable)
        for name in ("transform", "transform_gate", *state):
            _keras_internals.forget(self, name)

    def adapter_state(self):
        names = self.transform.weights(transform_size(self, self.transform))
        return {name: getattr(self, name) for name in names}

    @property
    def transform_values(self) -> dict:
        """The weights of the transform as tensors, by name."""
        return {name: v.value for name, v in self.adapter_state().items()}

    def _merged(self):
        """Kernel and bias with the transform in them, float32."""
        view = kernel_view(self)
        kernel = _keras_internals.dequantized_kernel(self)
        bias = self.base_bias
        if bias is not None:
            bias = ops.reshape(ops.cast(bias.value, "float32"), (-1,))
        matrix, bias = self.transform.merged(
            self.transform_values,
            view.to_matrix(ops.cast(kernel, "float32")),
            bias,
        )
        return view.from_matrix(matrix), bias

    def merged_kernel(self):
        if not self.transform.merges:
            return super().merged_kernel()
        self.check_merge()
        return ops.cast(self._merged()[0], self.kernel.dtype)

    def merged_bias(self):
        own = self.base_bias
        if own is None or not self.transform.merges:
            return super().merged_bias()
        bias = ops.reshape(self._merged()[1], own.shape)
        return ops.cast(bias, own.dtype)

    def reset_updates(self):
        size = transform_size(self, self.transform)
        for name, value in self.transform.reset(size).items():
            getattr(self, name).assign(value)

    def save_own_variables(self, store):
        alone = not self._save_separately and not self.transform.merges
        if alone and self._has_update():
            raise ValueError(
                "Expected weights that fit the layer without adapters. "
                f"Received: '{self.name}' with a bottleneck, which no kernel "
                "can take over. Save the adapter with `adapters.save`, or "
                "save the `DebiasedModel` around the network."
            )
        super().save_own_variables(store)

    def _has_update(self) -> bool:
        size = transform_size(self, self.transform)
        return any(
            not np.array_equal(
                ops.convert_to_numpy(getattr(self, name).value), value
            )
            for name, value in self.transform.reset(size).items()
        )


def transform_size(layer: keras.Layer, transform) -> int:
    """The number of inputs, or outputs, of a layer."""
    view = kernel_view(layer)
    return view.inputs if transform.side == "inputs" else view.outputs
