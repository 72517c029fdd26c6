import numpy as np
from keras import ops

from keras_debias.layers.kernel_forms import Weight
from keras_debias.layers.transforms.transform import Transform


class Scaling(Transform):
    """Multiplies each entry by a trained number, which starts at one.

    Args:
        side: `"inputs"` or `"outputs"` of the layer.
        shape: tuple of ints. The axes of the vectors in the layer's tensors.
    """

    merges = True
    takes_axes = True

    def __init__(self, side, shape):
        super().__init__(side)
        self.shape = tuple(shape)

    def weights(self, size):
        return {"ia3_scale": Weight((size,))}

    def initial(self, size):
        return {"ia3_scale": np.ones(size, "float32")}

    def apply(self, values, x, gate):
        scale = 1.0 + gate * (values["ia3_scale"] - 1.0)
        scale = ops.reshape(scale, self.shape)
        # In float32: at half precision a scale near one would be one.
        return ops.cast(ops.cast(x, "float32") * scale, x.dtype)

    def reset(self, size):
        return {"ia3_scale": np.ones(size, "float32")}

    def merged(self, values, matrix, bias):
        scale = values["ia3_scale"]
        if self.side == "inputs":
            return matrix * scale[:, None], bias
        return matrix * scale, None if bias is None else bias * scale
