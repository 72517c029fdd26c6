import keras
import numpy as np
from keras import ops

from keras_debias.adapters.bias_forms.bias_form import MatrixForm
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class VeRABias(MatrixForm):
    """A bias updated through frozen random matrices.

    `b + vec(diag(s_b) B diag(s_d) A)`, where `B`, of shape `(rows, rank)`,
    and `A`, of shape `(rank, columns)`, are random and frozen. Only the two
    vectors train, `rows + rank` weights: 32 of 768.

    Args:
        rank: int. Rank of `B A`. Defaults to `8`.
        rows: int. The paper's `n`. Defaults to `None`: the matrix is as square
            as possible.
        columns: int. The paper's `m`. Defaults to `None`, as for `rows`.
        initial_scale: float. Start of `s_d`; `s_b` starts at zero. Defaults
            to `0.1`.
        seed: int. Seed of the random matrices. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of range; when applied, if the matrix
            does not have as many entries as the bias, or `rank` is above its
            smaller side.

    Example:

    ```python
    kd.adapters.ValueBias(form=kd.adapters.VeRABias(rank=8))
    ```

    Reference:
        BEFT (Huang et al.), appendix C.4, after
        [Kopiczko et al., 2024](https://arxiv.org/abs/2310.11454).
    """

    def __init__(
        self, rank=8, rows=None, columns=None, initial_scale=0.1, seed=0
    ):
        super().__init__(rank, rows, columns, seed)
        if not (is_number(initial_scale) and initial_scale != 0):
            raise ValueError(
                "Expected `initial_scale` to be finite and not zero: nothing "
                "would train from zero. "
                f"Received: initial_scale={initial_scale!r}"
            )
        self.initial_scale = initial_scale

    def start(self, size, base):
        rows, columns = self.grid(size)
        generator = np.random.default_rng(self.seed)
        # As in VeRA: uniform with the variance of Kaiming's start.
        b = generator.uniform(-1, 1, (rows, self.rank)) * (3 / self.rank) ** 0.5
        a = generator.uniform(-1, 1, (self.rank, columns))
        a *= (3 / columns) ** 0.5
        return {
            "frozen_a": (a.astype("float32"), False),
            "frozen_b": (b.astype("float32"), False),
            "scale_d": (np.full(self.rank, self.initial_scale, "f4"), True),
            "scale_b": (np.zeros(rows, "float32"), True),
        }

    def delta(self, variables, base):
        left = variables["scale_b"][:, None] * variables["frozen_b"]
        right = variables["scale_d"][:, None] * variables["frozen_a"]
        return ops.reshape(ops.matmul(left, right), (-1,))

    def get_config(self):
        return {**super().get_config(), "initial_scale": self.initial_scale}
