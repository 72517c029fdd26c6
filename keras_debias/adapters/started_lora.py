import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.lora import LoRA
from keras_debias.layers.kernel_forms import StartedKernel
from keras_debias.linalg import kernel_view


class StartedLoRA(LoRA):
    """Base class of LoRA whose product of factors does not start at zero.

    The methods write the residual `W - s A0 B0` into the base. Here `W`
    stays as it is and `s (x A0) B0` is subtracted in the low-rank path.
    Outputs and gradients are the same, the start is exact to the bit, and
    the base is never changed.
    """

    @property
    def form(self):
        return StartedKernel(self.rank)

    def base_matrix(self, path, layer, constraint=None) -> np.ndarray:
        """The kernel, inputs x outputs, float32, less what is protected."""
        kernel = _keras_internals.dequantized_kernel(layer)
        matrix = ops.cast(kernel_view(layer).to_matrix(kernel), "float32")
        if constraint is not None:
            matrix = constraint.project_gradient(matrix)
        matrix = ops.convert_to_numpy(matrix)
        if not np.isfinite(matrix).all():
            raise ValueError(
                "Expected a kernel of finite values. Received: '"
                f"{path}', with {np.sum(~np.isfinite(matrix))} that are not. "
                "Load sound weights first."
            )
        return matrix
