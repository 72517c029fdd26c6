"""A trainable update of a bias, of a part of one, or of a missing one."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.adapted_layer import initial
from keras_debias.layers.adapted_layer import stored_bias


@dataclasses.dataclass(frozen=True)
class BiasSlot:
    """Where in the output of a projection a bias is added.

    Args:
        shape: tuple of ints. The shape of the layer's whole bias.
        qkv_slot: int or `None`. For a projection that computes queries, keys
            and values together, the number (0, 1 or 2) of the third of the
            last axis. `None` means the whole axis.
    """

    shape: tuple[int, ...]
    qkv_slot: int | None = None

    @property
    def part_shape(self) -> tuple[int, ...]:
        if self.qkv_slot is None:
            return self.shape
        return (*self.shape[:-1], self.shape[-1] // 3)

    @property
    def size(self) -> int:
        return math.prod(self.part_shape)

    def extract(self, bias):
        """The part of a whole bias, as a vector."""
        if self.qkv_slot is not None:
            width = self.part_shape[-1]
            start = self.qkv_slot * width
            bias = bias[..., start : start + width]
        return ops.reshape(bias, (self.size,))

    def place(self, vector):
        """A vector as a whole bias, zero elsewhere."""
        part = ops.reshape(vector, self.part_shape)
        if self.qkv_slot is None:
            return part
        width = self.part_shape[-1]
        before, after = self.qkv_slot * width, (2 - self.qkv_slot) * width
        edges = [(0, 0)] * (len(self.shape) - 1) + [(before, after)]
        return ops.pad(part, edges)


def bias_shape(layer: keras.Layer) -> tuple[int, ...]:
    """The shape of the bias of a built layer, or of the one it could have.

    One entry for each output of the kernel; size 1 on other output axes.
    """
    bias = stored_bias(layer)
    if bias is not None:
        return tuple(int(s) for s in bias.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel = layer.equation.split("->")[0].split(",")
        output = layer.equation.split("->")[1]
        sizes = dict(zip(kernel, _keras_internals.kernel_shape(layer)))
        of_kernel = [c in kernel and c not in inputs for c in output]
        return tuple(
            int(sizes[c]) if own else 1 for c, own in zip(output, of_kernel)
        )[of_kernel.index(True) :]
    return _keras_internals.kernel_shape(layer)[-1:]


def bias_name(role: str, name: str) -> str:
    """The name of a weight of an update in its layer."""
    return f"{role}_bias_{name}" if name else f"{role}_bias"


class BiasUpdate(AdaptedLayer):
    """A mixin for `Dense` and `EinsumDense`: the bias plus trained updates.

    `bias` is the sum that is added to the output: the layer's frozen bias,
    if it has one, and the updates. Therefore the `call` of these layers,
    low-rank or not, needs no change.
    """

    @property
    def bias(self):
        total = self._total_bias()
        return None if total is None else ops.cast(total, self.compute_dtype)

    def _total_bias(self):
        total = self.base_bias
        if total is not None:
            total = ops.cast(total.value, "float32")
        for role in self.bias_updates:
            update = self.bias_delta(role) * self.bias_gate
            total = update if total is None else total + update
        return total

    def bias_delta(self, role):
        """One update, in the shape of the whole bias, float32."""
        form, slot, names = self.bias_updates[role]
        variables = {
            name: getattr(self, own).value for name, own in names.items()
        }
        base = self.base_bias
        if base is not None:
            base = slot.extract(ops.cast(base.value, "float32"))
        return slot.place(form.delta(variables, base))

    def add_bias_update(self, role, form, slot, start):
        """Adds the weights of an update to the built layer.

        Args:
            role: string. Names the update and its weights.
            form: the form of the bias, such as `VectorBias()`.
            slot: `BiasSlot`.
            start: dict of `(array, trainable)` by name.
        """
        names = {}
        for name, (array, trainable) in start.items():
            own = bias_name(role, name)
            variable = self.add_weight(
                name=own,
                shape=np.shape(array),
                initializer=initial(array),
                dtype="float32",
                autocast=False,
                trainable=trainable,
            )
            variable.trainable = trainable
            setattr(self, own, variable)
            names[name] = own
        updates = dict(getattr(self, "bias_updates", {}))
        if not updates:
            # A variable: compiled functions see it change.
            self.bias_gate = self.add_weight(
                name="bias_gate",
                shape=(),
                initializer="ones",
                dtype="float32",
                autocast=False,
                trainable=False,
            )
        self.bias_updates = {**updates, role: (form, slot, names)}
        self.bias_starts = {
            **getattr(self, "bias_starts", {}),
            role: {name: array for name, (array, _) in start.items()},
        }

    def remove_bias_update(self, role):
        """Removes the weights of an update."""
        updates, starts = dict(self.bias_updates), dict(self.bias_starts)
        for own in updates.pop(role)[2].values():
            _keras_internals.remove_weight(self, getattr(self, own))
            _keras_internals.forget(self, own)
        starts.pop(role)
        self.bias_updates, self.bias_starts = updates, starts
        if not updates:
            _keras_internals.remove_weight(self, self.bias_gate)
            for name in ("bias_gate", "bias_updates", "bias_starts"):
                _keras_internals.forget(self, name)

    def bias_state(self, role) -> dict[str, keras.Variable]:
        """The weights of an update by their names in the layer."""
        names = self.bias_updates[role][2].values()
        return {own: getattr(self, own) for own in names}

    def adapter_state(self):
        state = super().adapter_state()
        for role in self.bias_updates:
            state.update(self.bias_state(role))
        return state

    def merged_bias(self):
        total = self._total_bias()
        base = self.base_bias
        return total if base is None else ops.cast(total, base.dtype)

    def reset_updates(self):
        super().reset_updates()
        for role, start in self.bias_starts.items():
            names = self.bias_updates[role][2]
            for name, array in start.items():
                getattr(self, names[name]).assign(np.array(array))
