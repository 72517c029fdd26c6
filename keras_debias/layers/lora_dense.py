import keras
from keras import ops

from keras_debias.layers.low_rank import BuiltLowRank
from keras_debias.layers.low_rank import validate_low_rank


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRADense(BuiltLowRank, keras.layers.Dense):
    """A `Dense` layer with a frozen kernel and a low-rank update.

    Computes `activation(x W + s (x A) B + bias)` with `s = alpha / rank`. The
    kernel `W` takes no part in training, and no gradient of its size is ever
    formed. `keras_debias.adapters.apply` turns the layers of a built model
    into this class in place.

    Args:
        units: int. Size of the output.
        rank: int. Columns of `A`, of shape `(inputs, rank)`, and rows of
            `B`, of shape `(rank, units)`. Defaults to `8`.
        alpha: float. Numerator of the scale. Defaults to `rank`.
        dropout: float in [0, 1). Dropout on the inputs of the update only.
            Defaults to `0.0`.
        rank_stabilized: bool. `alpha / sqrt(rank)` as the scale. Defaults to
            `False`.
        train_bias: bool. Whether the bias trains. Defaults to `False`.
        has_start: bool. Whether starting factors are subtracted, as for
            PiSSA. Defaults to `False`.
        has_magnitude: bool. Whether the lengths of the kernel's columns
            train, as for DoRA. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    >>> layer = LoRADense(3, rank=2)
    >>> tuple(layer(np.ones((4, 5), dtype="float32")).shape)
    (4, 3)

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685)
    """

    def __init__(
        self,
        units,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        train_bias=False,
        has_start=False,
        has_magnitude=False,
        **kwargs,
    ):
        validate_low_rank(rank, alpha, dropout)
        super().__init__(units, **kwargs)
        self.keep_settings(
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            rank_stabilized=rank_stabilized,
            train_bias=train_bias,
            has_start=has_start,
            has_magnitude=has_magnitude,
        )

    def _product(self, inputs):
        return ops.matmul(inputs, self.kernel)
