import keras

from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.layers.kernel_forms import LoRAKernel
from keras_debias.layers.low_rank import scaling


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRA(LowRankAdapter):
    """Low-rank adaptation: trains `A B` beside frozen kernels.

    The layers compute `x W + s (x A) B` with `s = alpha / rank`, where `A`
    starts random and `B` at zero. `A` and `B` belong to the 2-D view of the
    kernel (inputs x outputs), so rank and parameter count are those of
    PEFT: rank 8 on query and value of a 6-layer encoder of width 384 trains
    73,728 parameters.

    Args:
        rank: int. Rank of each update, at most the smaller side of the
            kernel. Defaults to `8`.
        alpha: float. Numerator of the scale. `None` means `rank`, a scale
            of one. Defaults to `None`.
        dropout: float in [0, 1). Dropout on the inputs of the update only.
            Defaults to `0.0`.
        rank_stabilized: bool. Scale by `alpha / sqrt(rank)` (rsLoRA), which
            keeps the size of gradients at high ranks. Defaults to `False`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. `Dense` and `EinsumDense` layers to adapt, in
            floats or quantized by `model.quantize("int8")` or `"int4"`
            (QLoRA): the update stays in floats, and is not merged.
            Defaults to `("query", "value")`.
        train_bias: bool. Whether the biases of the adapted layers train.
            Defaults to `False`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
    ```

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685). The scale of
        `rank_stabilized` is from [Kalajdzievski, 2023](
        https://arxiv.org/abs/2312.03732).
    """

    def __init__(
        self,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        targets=("query", "value"),
        train_bias=False,
    ):
        super().__init__(
            rank, alpha, dropout, rank_stabilized, targets, train_bias
        )

    @property
    def form(self):
        return LoRAKernel(self.rank)

    @property
    def scaling(self) -> float:
        """The factor `s` before the product."""
        return scaling(self.rank, self.alpha, self.rank_stabilized)

    def get_config(self):
        return {
            **super().get_config(),
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "rank_stabilized": self.rank_stabilized,
            "train_bias": self.train_bias,
        }
