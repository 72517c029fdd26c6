import keras

from keras_debias.adapters.lora import LoRA
from keras_debias.layers.kernel_forms import LoRAKernel


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRAFA(LoRA):
    """LoRA with `A` frozen at its random start: only `B` trains.

    The layers compute `x W + s (x A) B`, as with `LoRA`. The gradient of `B`
    needs only the `rank` numbers `x A` of each position, so the inputs of
    adapted layers need not be kept for the backward pass. Half of the weights
    train.

    A learning rate to start from is twice that of `LoRA`: `4e-4` on language
    models, `2e-3` on small encoders.

    Args:
        rank: int. Rank of each update. Defaults to `8`.
        alpha, dropout, rank_stabilized, targets, train_bias: As for `LoRA`,
            with its defaults.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.LoRAFA(rank=8))
    ```

    Reference:
        [Zhang et al., 2023](https://arxiv.org/abs/2308.03303), first
        version. The correction of the gradient of `B` in later versions,
        which PEFT has as an optimizer, is not part of it.
    """

    @property
    def form(self):
        return LoRAKernel(self.rank, train_a=False)
