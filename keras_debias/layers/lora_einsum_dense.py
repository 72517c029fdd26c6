import keras
from keras import ops

from keras_debias.layers.low_rank import BuiltLowRank
from keras_debias.layers.low_rank import validate_low_rank


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRAEinsumDense(BuiltLowRank, keras.layers.EinsumDense):
    """An `EinsumDense` layer with a frozen kernel and a low-rank update.

    The factors live on the 2-D view of the kernel, inputs x outputs, whatever
    the order of its axes: a query kernel `(model, heads, size)` has `A` of
    shape `(model, rank)` and `B` of shape `(rank, heads * size)`, as in PEFT.
    Keras' own `enable_lora` factorizes the last axis only.

    Args:
        equation: string. As for `keras.layers.EinsumDense`; each kernel axis
            must be summed with the input or kept in the output.
        output_shape: int or tuple. As for `keras.layers.EinsumDense`.
        rank: int. Rank of the update. Defaults to `8`.
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
        **kwargs: Arguments of `keras.layers.EinsumDense`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range, or the
            kernel has axes that are neither inputs nor outputs.

    Example:

    >>> layer = LoRAEinsumDense("abc,cde->abde", (None, 2, 3), rank=2)
    >>> tuple(layer(np.ones((4, 5, 6), dtype="float32")).shape)
    (4, 5, 2, 3)

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685)
    """

    def __init__(
        self,
        equation,
        output_shape,
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
        super().__init__(equation, output_shape, **kwargs)
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
        return ops.einsum(self.equation, inputs, self.kernel)
