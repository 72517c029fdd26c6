import keras

from keras_debias.layers.added_vector import AddedVector


# The adapter has the short name.
@keras.saving.register_keras_serializable(
    package="keras_debias", name="layers.ValueBias"
)
class ValueBias(AddedVector):
    """Adds a trained bias to the values of your own attention layer.

    Put it after a value projection without a bias. Attention weights sum to
    one over the keys, so the bias reaches the output unchanged. It starts at
    zero. `kd.adapters.disabled` leaves it out; `merge` makes it an ordinary
    weight of the model, in this layer. Where a projection has a bias,
    `kd.adapters.ValueBias` trains that one.

    Args:
        num_axes: int. How many of the last axes the bias has: `1` for values
            of shape `(batch, length, width)`, `2` for `(batch, length, heads,
            size)`. Defaults to `1`.
        merged: bool. Whether the bias is an ordinary weight instead of an
            adapter. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_axes` is not a positive integer; when built, if
            the inputs have fewer axes or one of unknown size.

    Example:

    >>> layer = ValueBias(num_axes=2)
    >>> values = layer(np.ones((1, 5, 2, 4), dtype="float32"))
    >>> tuple(layer.vector.shape)
    (2, 4)

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*.
    """

    vector_name = "value_bias"

    def __init__(self, num_axes=1, merged=False, **kwargs):
        if (
            not isinstance(num_axes, int)
            or isinstance(num_axes, bool)
            or num_axes < 1
        ):
            raise ValueError(
                "Expected `num_axes` to be a positive integer. Received: "
                f"num_axes={num_axes!r}"
            )
        super().__init__(num_axes, merged, **kwargs)

    def get_config(self):
        return {**super().get_config(), "num_axes": self.num_axes}
