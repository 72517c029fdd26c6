"""A penalty that keeps the factors of an update orthonormal."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_debias")
class Orthogonality(keras.regularizers.Regularizer):
    """`weight |M' M - I|^2`, the squared Frobenius norm.

    Args:
        weight: float.
        axis: int. `0` for a matrix with orthonormal columns, `1` for rows.
    """

    def __init__(self, weight, axis):
        self.weight = weight
        self.axis = axis

    def __call__(self, x):
        transposed = ops.transpose(x)
        gram = (
            ops.matmul(transposed, x)
            if self.axis == 0
            else ops.matmul(x, transposed)
        )
        rest = gram - ops.eye(gram.shape[0], dtype=gram.dtype)
        return self.weight * ops.sum(ops.square(rest))

    def get_config(self):
        return {"weight": self.weight, "axis": self.axis}
