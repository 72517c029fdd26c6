import keras
import numpy as np
from keras import ops

from keras_debias.adapters.bias_forms.bias_form import MatrixForm


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRABias(MatrixForm):
    """A low-rank update of a bias: `b + vec(A B)`.

    The bias is read row by row as a matrix of `rows x columns`; `A` is
    `(rows, rank)`, `B` is `(rank, columns)` and starts at zero.

    Args:
        rank: int. Rank of `A B`. Defaults to `8`.
        rows: int. The paper's `n`. Defaults to `None`: the matrix is as square
            as possible, 24 x 32 for 768 entries, 32 x 32 for 1,024.
        columns: int. The paper's `m`. Defaults to `None`, as for `rows`.
        seed: int. Seed of the start of `A`. Defaults to `0`.

    Raises:
        ValueError: If an argument is not a positive integer; when applied, if
            the matrix does not have as many entries as the bias, or `rank` is
            above its smaller side.

    Example:

    ```python
    kd.adapters.ValueBias(form=kd.adapters.LoRABias(rank=8))
    ```

    Reference:
        BEFT (Huang et al.), appendix C.4.
    """

    def __init__(self, rank=8, rows=None, columns=None, seed=0):
        super().__init__(rank, rows, columns, seed)

    def start(self, size, base):
        rows, columns = self.grid(size)
        return {
            "a": (self.random(rows, self.rank), True),
            "b": (np.zeros((self.rank, columns), "float32"), True),
        }

    def delta(self, variables, base):
        return ops.reshape(ops.matmul(variables["a"], variables["b"]), (-1,))
