import keras

from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.layers.kernel_forms import EntriesKernel
from keras_debias.utils.numbers import require_seed


@keras.saving.register_keras_serializable(package="keras_debias")
class RandomEntries(LowRankAdapter):
    """Trains some entries of each kernel, drawn at random.

    A control for methods that select weights: the same number of weights,
    chosen at random. `ValueBias` trains one weight for each output, 768 a
    layer of BERT-base.

    A learning rate to start from is that of `ValueBias`, `4e-3` to `1e-2`.

    Args:
        count: int. How many entries of each kernel train. Defaults to `768`.
        targets: As for `LoRA`. Defaults to `("query", "value")`.
        seed: int. Seed of the choice; kernels of the same shape get the same
            entries. Defaults to `0`.

    Raises:
        ValueError: If `count` or `seed` is out of range; when applied, if a
            kernel has fewer entries.

    Example:

    ```python
    entries = kd.adapters.RandomEntries(count=384, targets="value")
    kd.adapters.apply(classifier, entries)
    ```

    Reference:
        "Rand uniform" of BitFit ([Ben Zaken et al., 2022](
        https://arxiv.org/abs/2106.10199)), which BEFT's Table 2 compares
        with. There entries of all weights are drawn at once.
    """

    def __init__(self, count=768, targets=("query", "value"), seed=0):
        super().__init__(count, None, 0.0, False, targets, False)
        require_seed(seed)
        self.seed = seed

    @property
    def form(self):
        return EntriesKernel(self.rank, self.seed)

    def check_rank(self, path, view):
        if self.rank > view.inputs * view.outputs:
            raise ValueError(
                f"Expected `count` to be at most {view.inputs * view.outputs}, "
                f"the entries of the kernel of '{path}'. Received: "
                f"count={self.rank}"
            )

    def get_config(self):
        config = super().get_config()
        return {**config, "count": self.rank, "seed": self.seed}
