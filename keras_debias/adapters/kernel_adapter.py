import abc

from keras_debias.adapters.adapter import Adapter


class KernelAdapter(Adapter):
    """Base class of adapters that train a kernel, or an update of it."""

    trains_kernel = True
    needs_frozen_layers = True

    @abc.abstractmethod
    def kernel_update(self, layer) -> tuple:
        """The update of the kernel as factors `(P, Q)` of NumPy, float64.

        `P Q`, inputs x outputs, or `(update, None)`.
        """

    @abc.abstractmethod
    def constrain(self, path, layer, vectors, side):
        """Keeps the update of the kernel orthogonal to some directions.

        Checks, and changes nothing.

        Args:
            path: string.
            layer: the layer.
            vectors: float array `(width, k)`, orthonormal.
            side: `"read"` (the update's inputs) or `"write"`.

        Returns:
            A function that changes the layer, cannot fail, and returns the
            constrained variables.

        Raises:
            ValueError: If the update has entered the directions already, or
                cannot be kept from them.
        """

    def ablated_values(self, layer, constraint) -> list[tuple]:
        """`(variable, value)` pairs that project the update like the base.

        The caller projects the kernel itself.
        """
        return []
