import keras
from keras import ops

from keras_debias.regularizers.chunked_logits import check_outputs
from keras_debias.regularizers.chunked_logits import map_rows
from keras_debias.regularizers.chunked_logits import num_rows
from keras_debias.regularizers.chunked_logits import row_weights
from keras_debias.regularizers.chunked_logits import sum_rows
from keras_debias.regularizers.chunked_logits import with_gradient
from keras_debias.regularizers.regularizer import Regularizer

# Outputs up to which their covariance matrix is formed.
_FEW_OUTPUTS = 1024


@keras.saving.register_keras_serializable(package="keras_debias")
class Diversity(Regularizer):
    """Decorrelates the outputs over the batch.

    `C` is the covariance matrix of the `D` outputs over the rows that count,
    with their number minus one as the divisor:

    ```
    (1 / D) sum over i != j of C[i, j]^2
    ```

    For a large vocabulary `C` is never formed: the matrix between rows has the
    same sum of squares.

    Args:
        weight: float of at least 0, or a learning-rate schedule. Defaults to
            `0.03`.
        name: string. Name in the logs. Defaults to `None`: `"diversity"`.

    Raises:
        ValueError: If `weight` is out of range.

    Example:

    >>> logits = np.array([[1, -1], [-1, 1]], "float32")
    >>> round(float(Diversity().call(None, logits)), 4)
    4.0

    Reference:
        BA-LoRA, equations (5) and (6), after VICReg
        ([Bardes et al., 2021](https://arxiv.org/abs/2105.04906)). The paper
        has it for classification; here it takes tokens as well.
    """

    def __init__(self, weight=0.03, name=None):
        super().__init__(weight, name)

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        shape = check_outputs(y_pred, mask)
        self.warn_if_idle(shape)
        weights = row_weights(y_pred, mask)
        count = ops.sum(weights)
        # One row has no covariance; no row at all gives NaN.
        degrees = ops.maximum(count - 1, 1) * (count / count)
        pieces = (
            _between_outputs if shape[-1] <= _FEW_OUTPUTS else _between_rows
        )

        def evaluate(outputs):
            mean = sum_rows(_weighted, outputs, weights) / count
            mean = ops.expand_dims(mean, 0)
            value, extra, change = pieces(outputs, weights, mean, degrees)

            def gradient(upstream):
                scale = upstream * 4 / (shape[-1] * degrees)

                def rows(outputs_, weight, *others):
                    found = change(outputs_, weight, *others)
                    return ops.cast(scale * found, outputs.dtype)

                return map_rows(rows, outputs, weights, *extra)

            return value / shape[-1], gradient

        return with_gradient(evaluate, y_pred)

    def idle_reason(self, shape):
        rows = num_rows(shape)
        if rows == 1:
            return (
                "the covariance of one row is 0. Received: outputs of shape "
                f"{shape}. Use larger batches"
            )
        if shape[-1] == 1:
            return (
                "one output has no other to be correlated with. Received: "
                f"outputs of shape {shape}"
            )
        return None


def _weighted(outputs, weight):
    return ops.sum(weight * ops.cast(outputs, "float32"), axis=0)


def _centered(outputs, weight, mean):
    return weight * (ops.cast(outputs, "float32") - mean)


def _between_outputs(outputs, weights, mean, degrees):
    """The sum over `C`, formed; and the gradient of rows."""

    def products(outputs, weight):
        rows = _centered(outputs, weight, mean)
        return ops.matmul(ops.transpose(rows), rows)

    covariance = sum_rows(products, outputs, weights) / degrees
    off_diagonal = covariance * (1 - ops.eye(outputs.shape[-1]))

    def change(outputs, weight):
        return ops.matmul(_centered(outputs, weight, mean), off_diagonal)

    return ops.sum(ops.square(off_diagonal)), (), change


def _between_rows(outputs, weights, mean, degrees):
    """The same by the matrix between rows, which has the same squares."""
    width = outputs.shape[-1]

    def squares(outputs, weight):
        return ops.sum(ops.square(_centered(outputs, weight, mean)), axis=0)

    variance = ops.expand_dims(
        sum_rows(squares, outputs, weights) / degrees, axis=0
    )
    everything = ops.reshape(outputs, (-1, width))
    marks = ops.reshape(weights, (-1, 1))

    def products(outputs, weight):
        # Centered on the left only: rows of the left sum to zero.
        left = _centered(outputs, weight, mean)
        right = ops.transpose(everything)
        return ops.matmul(left, ops.cast(right, "float32"))

    between = map_rows(products, outputs, weights)
    # Centered on the right, from the products.
    flat = ops.reshape(between, (-1, ops.shape(marks)[0]))
    off = ops.matmul(flat, marks) / ops.sum(marks)
    flat = (flat - off) * ops.transpose(marks)
    squared = ops.sum(ops.square(flat)) / ops.square(degrees)
    value = squared - ops.sum(ops.square(variance))
    between = ops.reshape(flat, ops.shape(between))

    def change(outputs, weight, between):
        whole = ops.matmul(between, ops.cast(everything, "float32")) / degrees
        return whole - _centered(outputs, weight, mean) * variance

    return value, (between,), change
