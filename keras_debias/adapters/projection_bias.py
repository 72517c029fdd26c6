import math

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter import drop_starting_values
from keras_debias.adapters.adapter import frozen_kernel
from keras_debias.adapters.adapter import initial_assignments
from keras_debias.adapters.adapter import initial_value
from keras_debias.adapters.adapter import remove_adapter
from keras_debias.adapters.adapter import train_base
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.attention import output_of
from keras_debias.adapters.attention import qkv_slot_of
from keras_debias.adapters.bias_forms import BiasForm
from keras_debias.adapters.bias_forms import VectorBias
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.bias_update import BiasSlot
from keras_debias.layers.bias_update import bias_name
from keras_debias.layers.bias_update import bias_shape
from keras_debias.layers.class_swap import adapted_class
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.linalg import kernel_view

ALREADY_TRAINED_HINT = (
    "Merge the first one with `adapters.merge`, or choose other `targets`."
)


class ProjectionBias(Adapter):
    """Base class of `ValueBias`, `QueryBias` and `KeyBias`.

    If a projection is separate and has a bias, that bias trains in place.
    Otherwise (no bias, one projection for all three, or another form) the
    weights of a `BiasUpdate` are added to the layer.
    """

    # What trains whole has a bias that trains, and is never switched off.
    needs_frozen_layers = True
    role = ""  # of a subclass

    def __init__(self, form=None, targets=None):
        super().__init__(targets)
        form = VectorBias() if form is None else form
        if not isinstance(form, BiasForm):
            raise TypeError(
                "Expected `form` to be the form of a bias such as "
                f"`LoRABias(rank=8)`. Received: form={form!r}"
            )
        self.form = form

    def find(self, model, training):
        if self.targets is not None:
            return super().find(model, training)
        found = [getattr(a, self.role) for a in attentions(model)]
        return {each.path: each.layer for each in found}

    def accepts(self, layer):
        return is_dense(layer)

    def exclusive_parts(self, layer):
        qkv_slot = qkv_slot_of(layer, self.role)
        return {"bias" if qkv_slot is None else f"{self.role} bias"}

    def slot(self, layer) -> BiasSlot:
        return BiasSlot(bias_shape(layer), qkv_slot_of(layer, self.role))

    def trains_own_bias(self, layer) -> bool:
        """Whether the layer's own bias trains, as it is."""
        return (
            type(self.form) is VectorBias
            and stored_bias(layer) is not None
            and qkv_slot_of(layer, self.role) is None
        )

    def check(self, path, layer):
        self.check_layer(path, layer)
        self.check_free(path, layer, ALREADY_TRAINED_HINT)
        if self.trains_own_bias(layer):
            return
        slot = self.slot(layer)
        if slot.qkv_slot is not None and slot.shape[-1] % 3:
            raise ValueError(
                "Expected a fused projection whose outputs are thirds. "
                f"Received: '{path}' with the bias shape {slot.shape}: its "
                "query, key and value cannot be told apart."
            )
        base = self._base_part(layer, slot)
        if self.form.needs_bias and (base is None or not base.any()):
            raise ValueError(
                f"Expected a pretrained bias for {self.form!r}, which "
                "starts from it. Received: "
                f"'{path}', whose bias is missing or zero. Use "
                "`VectorBias`, `LoRABias` or `VeRABias`."
            )
        self.form.check(path, slot.size)

    def _base_part(self, layer, slot):
        bias = stored_bias(layer)
        if bias is None:
            return None
        return np.array(ops.convert_to_numpy(slot.extract(as_array(bias))))

    def placeholder(self, layer):
        if self.trains_own_bias(layer):
            return None
        slot = self.slot(layer)
        return self.form.start(slot.size, self._base_part(layer, slot))

    def attach(self, layer, prepared):
        if prepared is None:
            train_base(layer, [stored_bias(layer)])
            add_adapter(layer, self)
            return
        slot = self.slot(layer)

        def change():
            layer.add_bias_update(self.role, self.form, slot, prepared)
            add_adapter(layer, self)

        target = adapted_class(layer, isinstance(layer, LowRankUpdate), True)
        _keras_internals.swap_class(layer, target, change)

    def disabled_values(self, layer):
        if self.trains_own_bias(layer):
            return initial_assignments(layer)
        return [(layer.bias_gate, 0.0)]

    def state(self, layer):
        if self.trains_own_bias(layer):
            return {"bias": stored_bias(layer)}
        return layer.bias_state(self.role)

    def state_shapes(self, layer):
        if self.trains_own_bias(layer):
            return {"bias": bias_shape(layer)}
        return {
            bias_name(self.role, name): np.shape(array)
            for name, (array, _) in self.placeholder(layer).items()
        }

    def base(self, layer):
        values = frozen_kernel(layer)
        if stored_bias(layer) is not None:
            values["bias"] = initial_value(layer, stored_bias(layer))
        return values

    def check_merge(self, path, layer, layers):
        if stored_bias(layer) is not None:
            return
        if self.role == "value" and qkv_slot_of(layer, "value") is None:
            found = output_of(path, layers)
            has_bias = found and stored_bias(found[1]) is not None
            fits = has_bias and _reaches(bias_shape(layer), found[1])
            if fits and found[1].quantization_mode is None:
                return
            missing = "its output projection has none either"
            if has_bias and not fits:
                missing = (
                    "which of its entries reach which inputs of the output "
                    "projection is not known (one axis for shared heads)"
                )
            elif has_bias:
                # Keras rounds its inputs, so no bias after it is equivalent.
                missing = "its output projection is quantized"
        else:
            missing = f"a {self.role} bias has no equal elsewhere"
        raise ValueError(
            "Expected a bias to merge into. Received: "
            f"'{path}', whose bias was injected, and {missing}. Merging "
            "would change the architecture. Keep the adapter "
            "(`adapters.save`), or add a bias: build the model with "
            "`use_bias=True` on its output projection (for a value bias) or "
            "on this one, and apply the adapter there."
        )

    def merge(self, path, layer, layers):
        remove_adapter(layer, self)
        if self.trains_own_bias(layer):
            drop_starting_values(layer, list(self.state(layer)))
            return
        if layer.base_bias is None:
            self._merge_into_output(path, layer, layers)
        else:
            update = ops.convert_to_numpy(layer.bias_delta(self.role))
            layer.base_bias.assign(as_array(layer.base_bias) + update)
        layer.remove_bias_update(self.role)
        if not hasattr(layer, "bias_updates"):
            low_rank = isinstance(layer, LowRankUpdate)
            layer.__class__ = adapted_class(layer, low_rank, False)

    def _merge_into_output(self, path, layer, layers):
        """Adds `W_o' b_v`: the rows of attention sum to one."""
        output = output_of(path, layers)[1]
        kernel = output.kernel.value
        if isinstance(output, LowRankUpdate):
            kernel = output.merged_kernel()
        view = kernel_view(output)
        matrix = ops.convert_to_numpy(
            view.to_matrix(ops.cast(kernel, "float32"))
        )
        bias = np.array(ops.convert_to_numpy(layer.bias_delta("value")))
        # Grouped queries share the heads of the values: one after another.
        if bias.size != matrix.shape[0]:
            heads = bias.reshape(bias.shape[0], -1)
            bias = np.repeat(heads, matrix.shape[0] // bias.size, axis=0)
        shift = bias.reshape(-1) @ matrix
        own = stored_bias(output)
        own.assign(as_array(own) + shift.reshape(tuple(own.shape)))

    def __repr__(self):
        targets = Adapter.get_config(self)["targets"]
        return f"{type(self).__name__}(form={self.form!r}, targets={targets})"

    def get_config(self):
        return {
            "form": keras.saving.serialize_keras_object(self.form),
            **super().get_config(),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config.get("form"), dict):
            config["form"] = keras.saving.deserialize_keras_object(
                config["form"]
            )
        return cls(**config)


def _reaches(shape, output) -> bool:
    """Whether each input of an output projection has a known value entry."""
    size, inputs = math.prod(shape), kernel_view(output).inputs
    # Grouped queries share heads, which must have an axis of their own.
    return inputs == size or (len(shape) > 1 and inputs % size == 0)
