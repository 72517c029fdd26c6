import keras

from keras_debias.layers.added_vector import AddedVector


@keras.saving.register_keras_serializable(package="keras_debias")
class Refine(AddedVector):
    """Adds a trained vector to the hidden states that enter a block.

    For your own blocks; `kd.adapters.TargetLayer` does it for those of
    KerasHub. The vector has the size of the last axis and starts at zero.
    `kd.adapters.disabled` leaves it out; `merge` makes it an ordinary weight
    of the model, in this layer.

    Args:
        merged: bool. Whether the vector is an ordinary weight instead of an
            adapter. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: When built, if the size of the last axis is unknown.

    Example:

    >>> layer = Refine()
    >>> hidden = layer(np.ones((1, 5, 8), dtype="float32"))
    >>> tuple(layer.vector.shape)
    (8,)

    Reference:
        Bias-aware PEFT, section 4.2.
    """

    vector_name = "refine"

    def __init__(self, merged=False, **kwargs):
        super().__init__(1, merged, **kwargs)
