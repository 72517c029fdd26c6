import keras
import numpy as np
from keras import ops

from keras_debias.losses.row_parts import joined
from keras_debias.losses.row_parts import own
from keras_debias.losses.row_parts import total
from keras_debias.regularizers.chunked_logits import check_outputs
from keras_debias.regularizers.chunked_logits import map_rows
from keras_debias.regularizers.chunked_logits import num_rows
from keras_debias.regularizers.chunked_logits import row_weights
from keras_debias.regularizers.chunked_logits import sum_rows
from keras_debias.regularizers.chunked_logits import with_gradient
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.regularizers.spectral_norm import SpectralNorm
from keras_debias.utils.numbers import require_count

# Outputs above which tokens are decomposed by the randomized algorithm.
_FEW_OUTPUTS = 256
# The randomized algorithm: directions beyond `k`, and power iterations.
_OVERSAMPLING = 10
_NUM_ITERATIONS = 2
# Singular values below this share of the largest are taken for zero.
_ZERO = 1e-6


@keras.saving.register_keras_serializable(package="keras_debias")
class SpectralConcentration(Regularizer):
    """Concentrates the outputs of a batch in few directions.

    `s` are the singular values, in descending order, of the matrix of all rows
    that count:

    ```
    - (s[1] + ... + s[k]) / norm(s)
    ```

    The gradient is exact and needs no derivative of a decomposition: the
    sum of the leading singular values has the gradient `U_k V_k'`, with
    zeros for singular values of zero. It is finite for repeated and for zero
    singular values.

    Args:
        weight: float of at least 0, or a learning-rate schedule. Defaults to
            `0.03`.
        k: int. How many leading singular values. Defaults to `5`.
        norm: a `SpectralNorm`. What their sum is divided by. `NUCLEAR` needs
            all singular values: use `FROBENIUS` for tokens of a large
            vocabulary. Defaults to `SpectralNorm.NUCLEAR`.
        name: string. Name in the logs. Defaults to
            `"spectral_concentration"`.

    Raises:
        ValueError: If `k` is not a positive integer, or larger than the
            vocabulary of token outputs, or `norm` is no `SpectralNorm`.

    Example:

    >>> logits = np.diag([3.0, 1.0]).astype("float32")
    >>> round(float(SpectralConcentration(k=1).call(None, logits)), 4)
    -0.75

    Reference:
        BA-LoRA, equations (7), `NUCLEAR`, and (12), `FROBENIUS`. With the
        published `k=5`, (7) is constant for fewer than six classes: a
        warning says so. Tokens with more than 256 outputs use the
        randomized decomposition of
        [Halko et al., 2011](https://arxiv.org/abs/0909.4061) and `FROBENIUS`.
    """

    sums_rows = True

    def __init__(self, weight=0.03, k=5, norm=SpectralNorm.NUCLEAR, name=None):
        super().__init__(weight, name)
        require_count(k, "k")
        if not isinstance(norm, SpectralNorm):
            raise ValueError(
                "Expected `norm` to be `SpectralNorm.NUCLEAR` or "
                f"`SpectralNorm.FROBENIUS`. Received: norm={norm!r}"
            )
        self.k = k
        self.norm = norm

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        shape = check_outputs(y_pred, mask)
        if len(shape) == 3 and self.k > shape[-1]:
            raise ValueError(
                "Expected `k` of at most the size of the vocabulary, "
                f"{shape[-1]}. Received: k={self.k}"
            )
        self.warn_if_idle(shape)
        weights = row_weights(y_pred, mask)
        is_large = len(shape) == 3 and shape[-1] > _FEW_OUTPUTS
        frobenius = self.norm is SpectralNorm.FROBENIUS
        decompose = self._randomized if is_large and frobenius else self._exact

        def evaluate(outputs):
            def squares(rows, weight):
                rows = ops.cast(rows, "float32")
                return ops.sum(weight * ops.square(rows))

            square = total(sum_rows(squares, outputs, weights))
            # Decompositions raise on NaN, but the training step must reject
            # the batch.
            sound = ops.isfinite(square)
            u, s, vt = decompose(outputs, weights)
            leading = ops.sum(s[: self.k])
            size = ops.sqrt(square) if frobenius else ops.sum(s)
            size = ops.where(size > 0, size, 1.0)
            share = leading / size
            # The gradient is u diag(factors) vt, and a part along the rows.
            chosen = ops.cast(ops.arange(ops.shape(s)[0]) < self.k, "float32")
            factors = chosen if frobenius else chosen - share
            largest = ops.max(s)
            factors = factors * ops.cast(s > _ZERO * largest, "float32")
            along = share / ops.square(size)
            scaled = u * ops.expand_dims(factors / size, 0)
            scaled = ops.reshape(
                scaled, (*ops.shape(outputs)[:-1], ops.shape(s)[0])
            )

            def gradient(upstream):
                # Factors of a row or a direction: few numbers to multiply.
                def rows(outputs_, weight, left):
                    found = ops.matmul(weight * left, -upstream * vt)
                    if frobenius:
                        part = (upstream * along) * weight
                        found = found + part * ops.cast(outputs_, "float32")
                    return ops.cast(found, outputs.dtype)

                return map_rows(rows, outputs, weights, scaled)

            count = total(ops.sum(weights))
            value = -share * (count / count)
            return ops.where(sound, value, float("nan")), gradient

        return with_gradient(evaluate, y_pred)

    def _exact(self, outputs, weights):
        """All singular triplets of the rows that count."""
        rows = joined(ops.cast(outputs, "float32") * weights)
        shape = ops.shape(rows)
        rows = ops.reshape(rows, (-1, outputs.shape[-1]))
        rows = ops.where(ops.isfinite(rows), rows, 0.0)
        u, s, vt = ops.svd(rows, full_matrices=False)
        return _own_rows(u, shape), s, vt

    def _randomized(self, outputs, weights):
        """The leading singular triplets, without a copy of the rows."""
        width = outputs.shape[-1]
        size = min(self.k + _OVERSAMPLING, width)
        # Drawn by NumPy: the same on every backend, and in every step.
        generator = np.random.default_rng(0)
        start = generator.standard_normal((width, size)).astype("float32")

        def times(matrix):
            def rows(outputs_, weight):
                outputs_ = ops.cast(outputs_, "float32")
                return weight * ops.matmul(outputs_, matrix)

            return map_rows(rows, outputs, weights)

        def transposed_times(matrix):
            def rows(outputs_, matrix_):
                outputs_ = ops.cast(outputs_, "float32")
                return ops.matmul(ops.transpose(outputs_), matrix_)

            matrix = ops.reshape(
                matrix, (*ops.shape(outputs)[:-1], ops.shape(matrix)[-1])
            )
            return total(sum_rows(rows, outputs, matrix))

        basis = _orthonormal(times(ops.convert_to_tensor(start)))
        for _ in range(_NUM_ITERATIONS):
            basis = _orthonormal(times(transposed_times(basis)))
        # Rows that do not count are zero in the basis.
        small = ops.transpose(transposed_times(basis))
        squares, turn = ops.eigh(ops.matmul(small, ops.transpose(small)))
        squares = ops.flip(squares)[: self.k]
        turn = ops.flip(turn, axis=1)[:, : self.k]
        s = ops.sqrt(ops.maximum(squares, 0.0))
        safe = ops.expand_dims(ops.where(s > 0, s, 1.0), 1)
        vt = ops.matmul(ops.transpose(turn), small) / safe
        return ops.matmul(basis, turn), s, vt

    def idle_reason(self, shape):
        if self.norm is not SpectralNorm.NUCLEAR:
            return None
        sizes = [n for n in (num_rows(shape), shape[-1]) if n is not None]
        if sizes and self.k >= min(sizes):
            return (
                "all singular values are among the leading ones, so that "
                f"their share is 1. Received: k={self.k} for outputs of shape "
                f"{shape}. Use k of at most {min(sizes) - 1}"
            )
        return None

    def get_config(self):
        return {**super().get_config(), "k": self.k, "norm": self.norm.value}

    @classmethod
    def from_config(cls, config):
        return super().from_config(
            {**config, "norm": SpectralNorm(config["norm"])}
        )


def _orthonormal(product):
    """An orthonormal basis of the columns; rows are samples or tokens."""
    product = joined(product)
    shape = ops.shape(product)
    matrix = ops.reshape(product, (-1, shape[-1]))
    matrix = ops.where(ops.isfinite(matrix), matrix, 0.0)
    return _own_rows(ops.qr(matrix)[0], shape)


def _own_rows(matrix, shape):
    """The rows of this process, of a matrix with those of all processes."""
    width = ops.shape(matrix)[-1]
    rows = own(ops.reshape(matrix, (*shape[:-1], width)))
    return ops.reshape(rows, (-1, width))
