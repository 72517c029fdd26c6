import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight
from keras_debias.linalg import kernel_view


class DoRAKernel(KernelForm):
    """The length of each kernel column trains separately from its direction.

    With `V = W + s A B` the layer computes `y_j = m_j (x V)_j / |V_j|` for
    each column `j` of the 2-D view (inputs x outputs), `m` starting at the
    lengths `|W_j|`. As the paper suggests and PEFT does, the length `|V_j|`
    counts as a constant in the backward pass, and it comes from `|W_j|^2`
    and products with the factors: neither `V` nor a gradient of its size is
    formed.

    A column of zeros has no direction. It stays zero.

    If a subspace is protected, the kernel is split: its part along the
    directions is left out, and length and direction are those of the rest. For
    directions of the outputs, the part that scaling brings back along them is
    removed.

    Args:
        inner: `KernelForm`. How `A` and `B` train.
        protected: an `OrthogonalUpdate` of the factors, or `None`. Defaults
            to `None`.
    """

    is_product = False

    def __init__(self, inner, protected=None):
        super().__init__(inner.rank)
        self.inner = inner
        self.protected = protected
        self.has_start = inner.has_start

    def weights(self, inputs, outputs):
        return {
            **self.inner.weights(inputs, outputs),
            "lora_magnitude": Weight((outputs,)),
        }

    def initial(self, layer, start):
        return {
            **self.inner.initial(layer, start),
            "lora_magnitude": self.start_magnitude(layer),
        }

    def start_magnitude(self, layer) -> np.ndarray:
        """The lengths of the columns of the frozen kernel."""
        squares = ops.sum(ops.square(self._base_matrix(layer)), axis=0)
        return np.array(ops.convert_to_numpy(ops.sqrt(squares)))

    def factors(self, values):
        return self.inner.factors(values)

    def start_factors(self, values):
        return self.inner.start_factors(values)

    def update_factors(self, values):
        return self.inner.update_factors(values)

    def names_of(self, side):
        return self.inner.names_of(side)

    def reset(self, layer):
        return {
            **self.inner.reset(layer),
            "lora_magnitude": self.start_magnitude(layer),
        }

    def _base_matrix(self, layer):
        """The scaled part of the frozen kernel, inputs x outputs, float32."""
        kernel = _keras_internals.dequantized_kernel(layer)
        matrix = ops.cast(kernel_view(layer).to_matrix(kernel), "float32")
        if self.protected is not None:
            matrix = self.protected.project_gradient(matrix)
        return matrix

    def _column_norms(self, layer):
        """`|V_j|` of each column, float32, a constant to the gradient."""
        with _keras_internals.without_autocast():
            matrix = self._base_matrix(layer)
            a, b = map(ops.stop_gradient, layer.update_factors())
            b = b * (layer.lora_gate * layer.scaling)
        # |W_j + A b_j|^2 = |W_j|^2 + (2 A'W_j + A'A b_j)' b_j
        inner = 2.0 * ops.matmul(ops.transpose(a), matrix)
        inner = inner + ops.matmul(ops.matmul(ops.transpose(a), a), b)
        squares = ops.sum(ops.square(matrix), axis=0)
        squares = squares + ops.sum(inner * b, axis=0)
        # The kernel may train as well.
        return ops.stop_gradient(ops.sqrt(ops.maximum(squares, 0.0)))

    def _magnitude_scale(self, layer):
        """`m_j / |V_j| - 1`, zero where the adapter is off."""
        lengths = self._column_norms(layer)
        safe = ops.where(lengths > 0, lengths, ops.ones_like(lengths))
        with _keras_internals.without_autocast():
            return layer.lora_gate * (layer.lora_magnitude / safe - 1.0)

    def outputs(self, layer, outputs, inputs):
        """The outputs `y = x V` plus their change due to scaling.

        The change is computed as a difference, so that at half precision a
        small change is not lost.
        """
        return ops.add(
            outputs, self._magnitude_correction(layer, outputs, inputs)
        )

    def _magnitude_correction(self, layer, y, inputs):
        view = kernel_view(layer)
        factors = ops.cast(self._magnitude_scale(layer), y.dtype)
        if self.protected is None:
            return view.scale(y, factors)
        v = ops.convert_to_tensor(self.protected.directions)
        if self.protected.side == "write":
            # `DoRA.constrain` ensures that the outputs are one axis, the last.
            v = ops.cast(v, y.dtype)

            def free(outputs):
                along = ops.matmul(outputs, v)
                return outputs - ops.matmul(along, ops.transpose(v))

            return free(view.scale(free(y), factors))
        kernel = _keras_internals.dequantized_kernel(layer)
        matrix = view.to_matrix(ops.cast(kernel, "float32"))
        fixed = ops.cast(ops.matmul(ops.transpose(v), matrix), y.dtype)
        along = view.up(view.down(inputs, ops.cast(v, y.dtype)), fixed)
        return view.scale(y - along, factors)

    def change(self, layer, update):
        whole = self._base_matrix(layer) + update
        change = whole * self._magnitude_scale(layer)
        if self.protected is not None and self.protected.side == "write":
            change = self.protected.project_gradient(change)
        return update + change
