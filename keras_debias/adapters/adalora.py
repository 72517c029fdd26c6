import keras

from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.layers.kernel_forms import AdaLoRAKernel
from keras_debias.layers.orthogonality import Orthogonality
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class AdaLoRA(LowRankAdapter):
    """Adaptive LoRA: layers that matter more keep higher ranks.

    The layers compute `x W + s ((x P) diag(e)) Q` with `s = alpha / rank`: `P`
    and `Q` start random, `e` at zero, and a penalty keeps them close to the
    singular vectors and values of their product. `kd.callbacks.RankAllocator`
    sets entries of `e` to zero during training, the least important of all
    layers first. Without it, the ranks do not change.

    A learning rate to start from is that of `LoRA`, `1e-3` on small encoders.

    Args:
        rank: int. Rank of each update at the start, 1.5 times the average that
            should remain. Defaults to `12`.
        alpha: float. Numerator of the scale. `None` means `rank`. Defaults
            to `None`.
        dropout, targets, train_bias: As for `LoRA`, with its defaults.
        orthogonality: float. Weight of `|P'P - I|^2 + |QQ' - I|^2`, summed
            over layers, in the loss; with `0` there is no penalty. Defaults
            to `0.1`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.AdaLoRA(rank=12))
    model = kd.DebiasedModel(classifier)
    model.compile()
    model.fit(
        train,
        epochs=3,
        callbacks=[kd.callbacks.RankAllocator(target_rank=8)],
    )
    ```

    Reference:
        [Zhang et al., 2023](https://arxiv.org/abs/2303.10512). PEFT takes the
        mean over layers of the norms, not the sum of their squares.
    """

    def __init__(
        self,
        rank=12,
        alpha=None,
        dropout=0.0,
        targets=("query", "value"),
        train_bias=False,
        orthogonality=0.1,
    ):
        super().__init__(rank, alpha, dropout, False, targets, train_bias)
        if not (is_number(orthogonality) and orthogonality >= 0):
            raise ValueError(
                "Expected `orthogonality` to be a finite number of at least "
                f"zero. Received: orthogonality={orthogonality!r}"
            )
        self.orthogonality = orthogonality

    @property
    def form(self):
        return AdaLoRAKernel(self.rank)

    def attach(self, layer, prepared):
        super().attach(layer, prepared)
        if self.orthogonality:
            for variable, axis in ((layer.lora_a, 0), (layer.lora_b, 1)):
                variable.regularizer = Orthogonality(self.orthogonality, axis)

    def get_config(self):
        return {
            **super().get_config(),
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "train_bias": self.train_bias,
            "orthogonality": self.orthogonality,
        }
