import keras
from keras import ops

from keras_debias.adapters.bias_forms.bias_form import MatrixForm
from keras_debias.linalg import truncated_svd


@keras.saving.register_keras_serializable(package="keras_debias")
class PiSSABias(MatrixForm):
    """The leading singular part of a bias trains: `b - vec(A0 B0) + vec(A B)`.

    The bias is read row by row as a matrix of `rows x columns`; `A0` and
    `B0`, where `A` and `B` start, come from its singular value
    decomposition.

    Args:
        rank: int. Rank of `A B`. Defaults to `8`.
        rows: int. The paper's `n`. Defaults to `None`: the matrix is as square
            as possible.
        columns: int. The paper's `m`. Defaults to `None`, as for `rows`.

    Raises:
        ValueError: If an argument is not a positive integer; when applied, if
            there is no bias or it is zero, the matrix does not have as many
            entries, or `rank` is above its smaller side.

    Example:

    ```python
    kd.adapters.ValueBias(form=kd.adapters.PiSSABias(rank=8))
    ```

    Reference:
        BEFT (Huang et al.), appendix C.5, after
        [Meng et al., 2024](https://arxiv.org/abs/2404.02948). With BA-LoRA's
        regularizers it is the paper's "BEFT + BA-LoRA".
    """

    needs_bias = True

    def __init__(self, rank=8, rows=None, columns=None):
        super().__init__(rank, rows, columns, seed=0)

    def start(self, size, base):
        matrix = base.reshape(self.grid(size))
        u, s, vt = truncated_svd(matrix, self.rank)
        a, b = u * s**0.5, s[:, None] ** 0.5 * vt
        return {
            "a": (a, True),
            "b": (b, True),
            "a_start": (a, False),
            "b_start": (b, False),
        }

    def delta(self, variables, base):
        # (A - A0) B + A0 (B - B0): zero to the bit at the start.
        a0, b0 = variables["a_start"], variables["b_start"]
        moved = ops.matmul(variables["a"] - a0, variables["b"])
        moved += ops.matmul(a0, variables["b"] - b0)
        return ops.reshape(moved, (-1,))

    def get_config(self):
        config = super().get_config()
        del config["seed"]
        return config
