import keras
import numpy as np

from keras_debias.adapters.decomposed_lora import DecomposedLoRA
from keras_debias.linalg import truncated_svd


@keras.saving.register_keras_serializable(package="keras_debias")
class PiSSA(DecomposedLoRA):
    """LoRA that starts from the principal singular vectors of each kernel.

    `A` and `B` start as the leading part of the kernel's singular value
    decomposition, `A0 = U S^(1/2)` and `B0 = S^(1/2) V'` (absorbing the
    scale), and train in its place. The rest of the kernel stays frozen.

    Args:
        rank: int. Rank of each update. Defaults to `8`.
        alpha, dropout, rank_stabilized, targets, train_bias: As for `LoRA`,
            with its defaults.
        exact: bool. Whether to decompose the kernels exactly, which takes ten
            times as long. Otherwise a randomized algorithm is used, whose
            starting product has at least 0.99 of the norm of the exact one.
            Defaults to `False`.
        seed: int. Seed of the randomized algorithm. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of range, or a kernel is not
            finite.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.PiSSA(rank=8))
    ```

    Reference:
        [Meng et al., 2024](https://arxiv.org/abs/2404.02948), as used by
        BA-LoRA. The paper writes the residual `W - s A0 B0` into the base;
        here `W` stays as it is and `s (x A0) B0` is subtracted in the
        low-rank path. Outputs and gradients are the same, the start is
        exact to the bit, and the base is never changed.
    """

    def __init__(
        self,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        targets=("query", "value"),
        train_bias=False,
        exact=False,
        seed=0,
    ):
        super().__init__(
            rank, alpha, dropout, rank_stabilized, targets, train_bias
        )
        self.exact = exact
        self.seed = seed

    def decompose(self, path, matrix):
        u, s, vt = truncated_svd(matrix, self.rank, self.exact, self.seed)
        root = np.sqrt(s / self.scaling)
        return u * root, root[:, None] * vt

    def get_config(self):
        return {
            **super().get_config(),
            "exact": self.exact,
            "seed": self.seed,
        }
