import keras

from keras_debias.layers.stand_alone_dense import StandAloneDense


@keras.saving.register_keras_serializable(package="keras_debias")
class PiSSADense(StandAloneDense):
    """A `Dense` layer whose update starts from its kernel's SVD.

    Like `LoRADense`, with the start of `kd.adapters.PiSSA`: `A` and `B` start
    from the leading singular directions of the kernel, and the layer computes
    `x W + s (x A) B - s (x A0) B0`. A new layer starts from its initial
    kernel. `from_layer`, and loading the weights of a plain layer, start from
    the pretrained kernel.

    Args:
        units: int. Size of the output.
        rank: int. Rank of the update. Defaults to `8`.
        alpha, dropout, rank_stabilized, train_kernel, train_bias: As for
            `LoRADense`, with its defaults.
        exact: bool. Whether to decompose the kernel exactly. Defaults to
            `False`.
        seed: int. Seed of the randomized algorithm. Defaults to `0`.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If an argument is out of range; when built, if `rank` is
            larger than a side of the kernel.

    Example:

    >>> dense = keras.layers.Dense(3)
    >>> y = dense(np.ones((4, 5), dtype="float32"))
    >>> layer = PiSSADense.from_layer(dense, rank=2)
    >>> [tuple(v.shape) for v in layer.trainable_variables]
    [(5, 2), (2, 3)]

    Reference:
        [Meng et al., 2024](https://arxiv.org/abs/2404.02948)
    """

    adapter_name = "PiSSA"
    own_settings = ("exact", "seed")
