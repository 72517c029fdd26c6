import keras
import numpy as np
from keras import ops

from keras_debias.layers.kernel_forms import Weight
from keras_debias.layers.transforms.transform import Transform


class Bottleneck(Transform):
    """Adds a perceptron with one narrow layer: `x + f(x D + d) U + u`.

    `D` starts random, all others at zero.

    Args:
        width: int. Size of the narrow layer.
        activation: function. The `f`.
    """

    def __init__(self, width, activation):
        super().__init__("outputs")
        self.width = width
        self.activation = activation

    def weights(self, size):
        return {
            "bottleneck_down": Weight((size, self.width)),
            "bottleneck_down_bias": Weight((self.width,)),
            "bottleneck_up": Weight((self.width, size)),
            "bottleneck_up_bias": Weight((size,)),
        }

    def initial(self, size):
        zeros = keras.initializers.Zeros()
        return {
            "bottleneck_down": keras.initializers.VarianceScaling(
                1 / 3, mode="fan_in", distribution="uniform"
            ),
            **dict.fromkeys(
                (
                    *("bottleneck_down_bias", "bottleneck_up"),
                    "bottleneck_up_bias",
                ),
                zeros,
            ),
        }

    def apply(self, values, x, gate):
        down, down_bias, up, up_bias, gate = (
            ops.cast(value, x.dtype)
            for value in (
                values["bottleneck_down"],
                values["bottleneck_down_bias"],
                values["bottleneck_up"],
                values["bottleneck_up_bias"],
                gate,
            )
        )
        # Not with `+`: tensorflow loses shapes of gradients.
        hidden = self.activation(ops.add(ops.matmul(x, down), down_bias))
        return x + gate * ops.add(ops.matmul(hidden, up), up_bias)

    def reset(self, size):
        return {
            "bottleneck_up": np.zeros((self.width, size), "float32"),
            "bottleneck_up_bias": np.zeros(size, "float32"),
        }
