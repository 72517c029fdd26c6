import keras

from keras_debias.layers.stand_alone_einsum_dense import StandAloneEinsumDense


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRAEinsumDense(StandAloneEinsumDense):
    """An `EinsumDense` layer with a low-rank update, for your own models.

    Like `LoRADense`. The factors belong to the 2-D view of the kernel, inputs
    x outputs, for any order of its axes: a query kernel `(model, heads, size)`
    has `A` of shape `(model, rank)` and `B` of shape `(rank, heads * size)`,
    as in PEFT. Keras' own `enable_lora` factorizes the last axis only.

    Args:
        equation: string. As for `keras.layers.EinsumDense`; each kernel axis
            must be summed with the input or kept in the output.
        output_shape: int or tuple. As for `keras.layers.EinsumDense`.
        rank: int. Rank of the update. Defaults to `8`.
        alpha, dropout, rank_stabilized, train_kernel, train_bias: As for
            `LoRADense`, with its defaults.
        **kwargs: Arguments of `keras.layers.EinsumDense`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range; when
            built, if `rank` is larger than a side of the kernel, or the
            kernel has axes that are neither inputs nor outputs.

    Example:

    >>> layer = LoRAEinsumDense("abc,cde->abde", (None, 2, 3), rank=2)
    >>> tuple(layer(np.ones((4, 5, 6), dtype="float32")).shape)
    (4, 5, 2, 3)

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685)
    """
