import abc

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import BIAS_CLAIMS
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.adapter import frozen_kernel
from keras_debias.adapters.adapter import initial_value
from keras_debias.adapters.low_rank_adapter import QUANTIZATIONS
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.class_swap import transformed_class
from keras_debias.layers.transformed_layer import transform_size
from keras_debias.layers.transforms import Transform
from keras_debias.linalg import kernel_view


class TransformAdapter(Adapter):
    """Base class of adapters that train a function around whole layers.

    A subclass defines the `Transform` of a layer. Such a layer takes no other
    adapter, because its inputs or outputs are no longer those of the kernel
    alone.
    """

    needs_frozen_layers = True

    @abc.abstractmethod
    def transform(self, layer) -> Transform:
        """What happens to the inputs or outputs of a layer."""

    def accepts(self, layer):
        return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))

    def exclusive_parts(self, layer):
        return {"transform", "kernel", "low_rank", *BIAS_CLAIMS}

    def check(self, path, layer):
        self.check_layer(path, layer)
        if adapters_of(layer):
            raise ValueError(
                "Expected a layer without adapters. Received: "
                f"'{path}' with {adapters_of(layer)}. Choose other "
                "layers, or apply it to a fresh model."
            )
        if layer.lora_enabled or layer.quantization_mode not in QUANTIZATIONS:
            state = layer.quantization_mode or "enable_lora"
            raise ValueError(
                "Expected a layer in its original form, or quantized to int8 "
                f"or int4. Received: '{path}', changed by Keras ({state}). "
                "Apply the adapter to a fresh model."
            )
        transform = self.transform(layer)
        shape = kernel_view(layer).trailing_shape(transform.side)
        if not shape or (len(shape) > 1 and not transform.takes_axes):
            raise ValueError(
                f"Expected a layer whose {transform.side} are vectors on the "
                f"last axis. Received: '{path}' with the equation "
                f"{layer.equation!r}. Choose other `targets`."
            )

    def check_directions(self, path, layer):
        raise ValueError(
            "Expected adapters whose updates can be kept from directions. "
            f"Received: '{path}' with {self!r}, which changes all that "
            "enters or leaves the layer. Use `LoRA` or `DoRA`."
        )

    def attach(self, layer, prepared):
        def change():
            layer.add_transform(self.transform(layer))
            add_adapter(layer, self)

        target = transformed_class(original_class(layer))
        _keras_internals.swap_class(layer, target, change)

    def disabled_values(self, layer):
        return [(layer.transform_gate, 0.0)]

    def state(self, layer):
        return layer.adapter_state()

    def state_shapes(self, layer):
        transform = self.transform(layer)
        weights = transform.weights(transform_size(layer, transform))
        return {name: weight.shape for name, weight in weights.items()}

    def base(self, layer):
        values = frozen_kernel(layer)
        if stored_bias(layer) is not None:
            values["bias"] = initial_value(layer, stored_bias(layer))
        return values
