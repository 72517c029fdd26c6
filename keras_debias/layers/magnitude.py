"""The magnitudes of weight-decomposed low-rank adaptation (DoRA)."""

import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import initial
from keras_debias.linalg import kernel_view


class Magnitude:
    """The length of each kernel column trains apart from its direction.

    Part of `LowRankUpdate`. With `V = W + s A B` the layer computes
    `y_j = m_j (x V)_j / |V_j|` for each column `j` of the 2-D view (inputs x
    outputs), `m` starting at the lengths `|W_j|`. As the paper suggests and
    PEFT does, the length `|V_j|` counts as a constant in the backward pass,
    and it comes from `|W_j|^2` and products with the factors: neither `V`
    nor a gradient of its size is formed.

    A column of zeros has no direction. It stays zero.

    Where a subspace is protected, the kernel is split: its part along the
    directions stays outside, and length and direction are those of the rest
    (on the side of the outputs, what scaling brings back along the
    directions is taken out again).
    """

    # An `OrthogonalUpdate` of the factors, or `None`.
    protected = None

    def protect(self, constraint):
        """Keeps the kernel's part along some directions outside."""
        self.protected = constraint
        self._reset_magnitude()

    def _add_magnitude(self):
        self.lora_magnitude = self.add_weight(
            name="lora_magnitude",
            shape=(kernel_view(self).outputs,),
            initializer=initial(self._start_magnitude()),
            dtype="float32",
            autocast=False,
            trainable=True,
        )
        self.lora_magnitude.trainable = True

    def _start_magnitude(self) -> np.ndarray:
        squares = ops.sum(ops.square(self._base_matrix()), axis=0)
        return np.array(ops.convert_to_numpy(ops.sqrt(squares)))

    def _reset_magnitude(self):
        self.lora_magnitude.assign(self._start_magnitude())

    def _base_matrix(self):
        """What is scaled of the frozen kernel, inputs x outputs, float32."""
        kernel = _keras_internals.dequantized_kernel(self)
        matrix = ops.cast(kernel_view(self).to_matrix(kernel), "float32")
        if self.protected is not None:
            matrix = self.protected.project_gradient(matrix)
        return matrix

    def _lengths(self):
        """`|V_j|` of each column, float32, a constant to the gradient."""
        with _keras_internals.without_autocast():
            matrix = self._base_matrix()
            a, b = map(ops.stop_gradient, self._factors())
            b = b * (self.lora_gate * self.scaling)
        # |W_j + A b_j|^2 = |W_j|^2 + (2 A'W_j + A'A b_j)' b_j
        inner = 2.0 * ops.matmul(ops.transpose(a), matrix)
        inner = inner + ops.matmul(ops.matmul(ops.transpose(a), a), b)
        squares = ops.sum(ops.square(matrix), axis=0)
        squares = squares + ops.sum(inner * b, axis=0)
        return ops.sqrt(ops.maximum(squares, 0.0))

    def _relative_lengthening(self):
        """`m_j / |V_j| - 1`, zero where the adapter is off."""
        lengths = self._lengths()
        safe = ops.where(lengths > 0, lengths, ops.ones_like(lengths))
        with _keras_internals.without_autocast():
            return self.lora_gate * (self.lora_magnitude / safe - 1.0)

    def _lengthening(self, y, inputs):
        """What scaling adds to the outputs `y = x V`.

        A difference, so that at half precision a small one is not lost.
        """
        view = kernel_view(self)
        factors = ops.cast(self._relative_lengthening(), y.dtype)
        if self.protected is None:
            return view.scale(y, factors)
        v = ops.convert_to_tensor(self.protected.directions)
        if self.protected.side == "write":
            # Outputs of one axis at the end: `DoRA.constrain` sees to it.
            v = ops.cast(v, y.dtype)

            def free(outputs):
                along = ops.matmul(outputs, v)
                return outputs - ops.matmul(along, ops.transpose(v))

            return free(view.scale(free(y), factors))
        kernel = _keras_internals.dequantized_kernel(self)
        matrix = view.to_matrix(ops.cast(kernel, "float32"))
        fixed = ops.cast(ops.matmul(ops.transpose(v), matrix), y.dtype)
        along = view.up(view.down(inputs, ops.cast(v, y.dtype)), fixed)
        return view.scale(y - along, factors)

    def _lengthened(self, update):
        """The whole change of the kernel, for that of the factors."""
        whole = self._base_matrix() + update
        change = whole * self._relative_lengthening()
        if self.protected is not None and self.protected.side == "write":
            change = self.protected.project_gradient(change)
        return update + change
