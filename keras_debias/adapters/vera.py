import keras
from keras import ops

from keras_debias.adapters.low_rank_adapter import LowRankAdapter
from keras_debias.layers.kernel_forms import VeRAKernel
from keras_debias.linalg import kernel_view
from keras_debias.utils.numbers import is_number
from keras_debias.utils.numbers import require_seed


@keras.saving.register_keras_serializable(package="keras_debias")
class VeRA(LowRankAdapter):
    """Vector-based random matrix adaptation: scales frozen random factors.

    The layers compute `x W + (x A diag(d)) B diag(b)`. `A` and `B` are random
    and frozen, and only the vectors `d` and `b` train, `rank + outputs`
    weights a layer: rank 256 on query and value of a 6-layer encoder of width
    384 trains 7,680, where `LoRA(rank=8)` trains 73,728. Layers of the same
    size share one `A` and one `B`, which come from the seed and are never
    saved.

    A learning rate to start from is `1e-2`, about ten times that of `LoRA`.

    Args:
        rank: int. Columns of `A` and rows of `B`. It may be larger than the
            kernel: each one costs a single weight. Defaults to `256`.
        initial_scale: float. Start of `d`; `b` starts at zero. Defaults to
            `0.1`.
        dropout, targets, train_bias: As for `LoRA`, with its defaults.
        seed: int. Seed of `A` and `B`. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.VeRA(rank=256))
    ```

    Reference:
        [Kopiczko et al., 2023](https://arxiv.org/abs/2310.11454). The paper
        and PEFT draw `A` and `B` for the largest layer and cut them for the
        others. Here they are cut likewise, and `A` is scaled to the layer's
        own size.
    """

    def __init__(
        self,
        rank=256,
        initial_scale=0.1,
        dropout=0.0,
        targets=("query", "value"),
        train_bias=False,
        seed=0,
    ):
        super().__init__(rank, None, dropout, False, targets, train_bias)
        require_seed(seed)
        if not (is_number(initial_scale) and initial_scale != 0):
            raise ValueError(
                "Expected `initial_scale` to be a finite number other than "
                "zero, where neither vector would have a gradient. Received: "
                f"initial_scale={initial_scale!r}"
            )
        self.initial_scale = initial_scale
        self.seed = seed

    @property
    def form(self):
        return VeRAKernel(self.rank, self.initial_scale, self.seed)

    def check_rank(self, path, view):
        """Any rank fits."""

    def base(self, layer):
        view = kernel_view(layer)
        factors = self.form.constants(view.inputs, view.outputs)
        return {
            **super().base(layer),
            **{k: ops.convert_to_numpy(v) for k, v in factors.items()},
        }

    def get_config(self):
        return {
            **super().get_config(),
            "rank": self.rank,
            "initial_scale": self.initial_scale,
            "dropout": self.dropout,
            "train_bias": self.train_bias,
            "seed": self.seed,
        }
