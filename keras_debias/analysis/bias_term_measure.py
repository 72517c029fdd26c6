import abc

import keras
import numpy as np

from keras_debias.analysis.bias_terms import BiasTerm
from keras_debias.utils.configurable import Configurable


class BiasTermMeasure(Configurable, abc.ABC):
    """Base class of the measures that rank bias terms.

    A subclass overrides `values` and `total`. One that compares two values of
    a bias is a `ChangeMeasure`.

    Example:

    ```python
    class LargestEntry(kd.analysis.BiasTermMeasure):
        name = "largest entry"

        def values(self, model, terms, before):
            return [float(np.abs(term.value()).max()) for term in terms]

        def total(self, values, sizes):
            return float(values.max())
    ```
    """

    # Shown in tables, and the end of the names of logs.
    name = "change"
    log_suffix = "change"
    # Whether it compares values before and after.
    is_change = False

    @abc.abstractmethod
    def values(
        self,
        model: keras.Model,
        terms: list[BiasTerm],
        before: list[np.ndarray] | None,
    ) -> list[float]:
        """One number for each bias term.

        Args:
            model: a `keras.Model`, or a `DebiasedModel` around one.
            terms: list of bias terms of the network.
            before: list of float32 arrays of shape `(size,)`, their earlier
                values, or `None` if the measure compares none.

        Returns:
            A list of floats, in the order of `terms`.
        """

    @abc.abstractmethod
    def total(self, values: np.ndarray, sizes: np.ndarray) -> float:
        """The number of a term over all layers.

        Args:
            values: float array of shape `(layers,)`, one value a layer.
            sizes: int array of shape `(layers,)`, the entries of each bias.

        Returns:
            A float.
        """
