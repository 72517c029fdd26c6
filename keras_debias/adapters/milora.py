import keras
import numpy as np

from keras_debias.adapters.decomposed_lora import DecomposedLoRA

# Singular values below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-6


@keras.saving.register_keras_serializable(package="keras_debias")
class MiLoRA(DecomposedLoRA):
    """LoRA that starts from the minor singular vectors of each kernel.

    `A` and `B` start as the last part of the kernel's singular value
    decomposition, `A0 = U S^(1/2)` and `B0 = S^(1/2) V'` (absorbing the
    scale), and train in its place. The principal part, which holds most of
    what was pretrained, stays frozen. `PiSSA` does the opposite.

    Directions in which a kernel is zero have no gradient, and are left out.
    The kernels are decomposed exactly.

    A learning rate to start from is that of `LoRA`: `2e-4` on language models,
    `1e-3` on small encoders.

    Args:
        rank: int. Rank of each update. Defaults to `32`.
        **settings: `alpha`, `dropout`, `rank_stabilized`, `targets` and
            `train_bias`, as for `LoRA`.

    Raises:
        ValueError: If an argument is out of range, or a kernel is not
            finite or has fewer than `rank` directions.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.MiLoRA(rank=32))
    ```

    Reference:
        [Wang et al., 2024](https://arxiv.org/abs/2406.09044). The paper
        writes the principal part into the base; here `W` stays as it is and
        `s (x A0) B0` is subtracted in the low-rank path. Outputs and
        gradients are the same.
    """

    def __init__(self, rank=32, **settings):
        super().__init__(rank, **settings)

    def decompose(self, path, matrix):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        count = int(np.sum(s > _RANK_TOLERANCE * s[0]))
        if count < self.rank:
            raise ValueError(
                f"Expected a kernel of at least rank {self.rank}. Received: "
                f"'{path}' of rank {count}: a start of zeros has no gradient. "
                "Choose a smaller `rank`, or use `LoRA`."
            )
        minor = slice(count - self.rank, count)
        root = np.sqrt(s[minor] / self.scaling)
        return u[:, minor] * root, root[:, None] * vt[minor]
