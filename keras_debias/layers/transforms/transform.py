import abc

import numpy as np

from keras_debias.layers.kernel_forms import Weight


class Transform(abc.ABC):
    """Base class of trained functions of a layer's inputs or outputs.

    A transform has settings and no weights. `TransformedLayer` holds the
    weights, and passes them as `values`, a dict of tensors by name. At the
    start, and where the adapter is off, a transform is the identity.

    Args:
        side: `"inputs"` of the layer, or its `"outputs"` before the
            activation.
    """

    # Whether it can be merged into kernel and bias.
    merges = False
    # Whether it works on several axes, such as heads and their size.
    takes_axes = False

    def __init__(self, side: str):
        self.side = side

    @abc.abstractmethod
    def weights(self, size: int) -> dict[str, Weight]:
        """The weights by name, for vectors of a size."""

    @abc.abstractmethod
    def initial(self, size: int) -> dict:
        """What each weight starts from: an array or a Keras initializer."""

    @abc.abstractmethod
    def apply(self, values: dict, x, gate):
        """The transformed tensor.

        Args:
            values: dict of tensors.
            x: tensor `(..., *shape)`, where the sizes in `shape` make up
                the size of the vectors.
            gate: scalar, `1` or `0` for the identity.
        """

    @abc.abstractmethod
    def reset(self, size: int) -> dict[str, np.ndarray]:
        """The values that make it the identity again, by name."""

    def merged(self, values: dict, matrix, bias) -> tuple:
        """Kernel `(inputs, outputs)` and bias with the transform in them.

        `bias` is a vector or `None`. Called only if `merges` is set.
        """
        raise NotImplementedError
