import keras
import numpy as np

from keras_debias.adapters.decomposed_lora import DecomposedLoRA


@keras.saving.register_keras_serializable(package="keras_debias")
class OLoRA(DecomposedLoRA):
    """LoRA that starts from an orthonormal basis of each kernel.

    With the QR decomposition `W' = Q R` of the transposed kernel, `B` starts
    as the first `rank` columns of `Q`, which are orthonormal, and `A` as the
    first rows of `R`, both transposed. They train in place of that part.

    A learning rate to start from is that of `PiSSA`, `2e-4`: the factors
    start large.

    Args:
        rank: int. Rank of each update. Defaults to `32`.
        **settings: `alpha`, `dropout`, `rank_stabilized`, `targets` and
            `train_bias`, as for `LoRA`.

    Raises:
        ValueError: If an argument is out of range, or a kernel is not
            finite.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.OLoRA(rank=32))
    ```

    Reference:
        [Büyükakyüz, 2024](https://arxiv.org/abs/2406.01775). The paper
        writes the residual `W - s A0 B0` into the base; here `W` stays as it
        is and `s (x A0) B0` is subtracted in the low-rank path. Outputs and
        gradients are the same.
    """

    def __init__(self, rank=32, **settings):
        super().__init__(rank, **settings)

    def decompose(self, path, matrix):
        q, r = np.linalg.qr(matrix.T)
        return r[: self.rank].T, q[:, : self.rank].T
