import keras

from keras_debias.layers.stand_alone_dense import StandAloneDense


@keras.saving.register_keras_serializable(package="keras_debias")
class DoRADense(StandAloneDense):
    """A `Dense` layer that trains lengths and directions of columns (DoRA).

    Like `LoRADense`, with the update of `kd.adapters.DoRA`: each column of the
    kernel is a trained length times the direction of `W + s A B`.

    Args:
        units: int. Size of the output.
        rank: int. Rank of the update. Defaults to `8`.
        alpha, dropout, rank_stabilized, train_kernel, train_bias: As for
            `LoRADense`, with its defaults.
        protected: `kd.constraints.OrthogonalUpdate` or `None`, as for
            `kd.adapters.DoRA`. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If an argument is out of range; when built, if `rank` is
            larger than a side of the kernel.

    Example:

    >>> dense = keras.layers.Dense(3)
    >>> y = dense(np.ones((4, 5), dtype="float32"))
    >>> layer = DoRADense.from_layer(dense, rank=2)
    >>> [tuple(v.shape) for v in layer.trainable_variables]
    [(5, 2), (2, 3), (3,)]

    Reference:
        [Liu et al., 2024](https://arxiv.org/abs/2402.09353)
    """

    adapter_name = "DoRA"
    own_settings = ("protected",)
