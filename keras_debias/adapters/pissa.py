import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.lora import LoRA
from keras_debias.linalg import kernel_view
from keras_debias.linalg import truncated_svd


@keras.saving.register_keras_serializable(package="keras_debias")
class PiSSA(LoRA):
    """LoRA that starts from the principal singular vectors of each kernel.

    `A` and `B` start as the leading part of the kernel's singular value
    decomposition, `A0 = U S^(1/2)` and `B0 = S^(1/2) V'` (absorbing the
    scale), and train instead of the kernel's remainder.

    Args:
        rank: int. Rank of each update. Defaults to `8`.
        alpha: float. Numerator of the scale. `None` means `rank`. Defaults
            to `None`.
        dropout: float in [0, 1). Dropout on the inputs of the trained
            factors. Defaults to `0.0`.
        rank_stabilized: bool. Scale by `alpha / sqrt(rank)`. Defaults to
            `False`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. Defaults to `("query", "value")`.
        train_bias: bool. Whether the biases of the adapted layers train.
            Defaults to `False`.
        exact: bool. Whether to decompose the kernels exactly, for ten times
            the time. Otherwise by a randomized algorithm, whose starting
            product holds at least 0.99 of the norm that the exact one has.
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

    def start(self, path, layer, constraint=None):
        view = kernel_view(layer)
        kernel = _keras_internals.dequantized_kernel(layer)
        matrix = ops.cast(view.to_matrix(kernel), "float32")
        if constraint is not None:
            matrix = constraint.project_gradient(matrix)
        matrix = ops.convert_to_numpy(matrix)
        if not np.isfinite(matrix).all():
            raise ValueError(
                "Expected a kernel of finite values. Received: '"
                f"{path}', with {np.sum(~np.isfinite(matrix))} that are not. "
                "Load sound weights first."
            )
        u, s, vt = truncated_svd(matrix, self.rank, self.exact, self.seed)
        alpha = self.rank if self.alpha is None else self.alpha
        divisor = self.rank**0.5 if self.rank_stabilized else self.rank
        root = np.sqrt(s / (alpha / divisor))
        return u * root, root[:, None] * vt

    def placeholder(self, layer):
        view = kernel_view(layer)
        return (
            np.zeros((view.inputs, self.rank), "float32"),
            np.zeros((self.rank, view.outputs), "float32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "exact": self.exact,
            "seed": self.seed,
        }
