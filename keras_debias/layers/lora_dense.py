import keras

from keras_debias.layers.stand_alone_dense import StandAloneDense


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRADense(StandAloneDense):
    """A `Dense` layer with a low-rank update, for your own models.

    Computes `activation(x (W + s A B) + bias)` as `x W + s (x A) B`, with
    `s = alpha / rank`. `LoRADense.from_layer(dense, rank=8)` converts a
    pretrained layer: the outputs are the same, and its kernel is frozen. A new
    layer has no pretrained weights, so its kernel and bias train as well.

    `kd.adapters.summary`, `disabled`, `merge`, `save` and `load`, the teacher
    of BA-LoRA and `.keras` files work on models of such layers as on models
    with applied adapters. After a merge, it is a `Dense` layer.

    Args:
        units: int. Size of the output.
        rank: int. Columns of `A`, of shape `(inputs, rank)`, and rows of
            `B`, of shape `(rank, units)`. Defaults to `8`.
        alpha: float. Numerator of the scale. `None` means `rank`. Defaults
            to `None`.
        dropout: float in [0, 1). Dropout on the inputs of the update only.
            Defaults to `0.0`.
        rank_stabilized: bool. `alpha / sqrt(rank)` as the scale. Defaults to
            `False`.
        train_kernel: bool. Whether kernel and bias train in addition to the
            update. Defaults to `True`; to `False` in `from_layer`.
        train_bias: bool. Whether the bias trains although the kernel is
            frozen. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range; when
            built, if `rank` is larger than a side of the kernel.

    Example:

    >>> dense = keras.layers.Dense(3)
    >>> y = dense(np.ones((4, 5), dtype="float32"))
    >>> layer = LoRADense.from_layer(dense, rank=2)
    >>> [tuple(v.shape) for v in layer.trainable_variables]
    [(5, 2), (2, 3)]

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685)
    """
