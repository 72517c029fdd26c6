import abc
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Weight:
    """Shape of a weight of an update, and whether it trains."""

    shape: tuple[int, ...]
    trainable: bool = True


class KernelForm(abc.ABC):
    """Base class of the forms in which the update of a kernel trains.

    A form holds settings and no weights. The kernel in training is
    `W + s (A B - A0 B0)` as a matrix, inputs x outputs, where `W` is the
    pretrained one, frozen. A form says which weights make the factors `A` and
    `B`, and how; `A0` and `B0` are factors to subtract, if any.
    `LowRankUpdate` holds the weights, and passes them to the form as `values`,
    a dict of tensors by name.

    Args:
        rank: int. Columns of `A` and rows of `B`.
    """

    # Whether `A0 B0` is subtracted.
    has_start = False
    # Whether the update is a product of factors and nothing more.
    is_product = True
    # Whether the weights that `names_of` names are the factors themselves.
    has_direct_factors = True

    def __init__(self, rank: int):
        self.rank = rank

    @abc.abstractmethod
    def weights(self, inputs: int, outputs: int) -> dict[str, Weight]:
        """The weights by name, for a kernel of these sizes."""

    @abc.abstractmethod
    def initial(self, layer, start: tuple | None) -> dict:
        """What each weight starts from: an array or a Keras initializer.

        Args:
            layer: the built layer.
            start: `(A0, B0)` as arrays, or `None`.
        """

    def constants(self, inputs: int, outputs: int) -> dict:
        """Tensors that never train and are never saved, by name."""
        return {}

    @abc.abstractmethod
    def factors(self, values: dict) -> tuple:
        """`(A, B)` of the product that trains."""

    def start_factors(self, values: dict) -> tuple | None:
        """`(A0, B0)` of the product to subtract, or `None`."""
        return None

    def update_factors(self, values: dict) -> tuple:
        """Factors of `A B - A0 B0`."""
        return self.factors(values)

    def names_of(self, side: str) -> list[str]:
        """The weights that are factors on a side, `"read"` or `"write"`.

        The one that trains comes first. Empty if the factor on that side is
        computed from other weights.
        """
        return []

    @abc.abstractmethod
    def reset(self, layer) -> dict[str, np.ndarray]:
        """The values that make the update zero again, by name."""

    def outputs(self, layer, outputs, inputs):
        """The outputs of the layer, given those with the product added."""
        return outputs

    def change(self, layer, update):
        """The whole change of the kernel, given the product, as matrices."""
        return update
