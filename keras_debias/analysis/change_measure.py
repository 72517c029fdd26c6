import abc

import numpy as np

from keras_debias.analysis.bias_term_measure import BiasTermMeasure


class ChangeMeasure(BiasTermMeasure):
    """Base class of measures of the change between two values of a bias.

    A subclass overrides `change`, for one bias, and `total`, over the layers.

    Example:

    ```python
    class LargestChange(kd.analysis.ChangeMeasure):
        def change(self, before, after):
            return float(np.abs(after - before).max())

        def total(self, values, sizes):
            return float(values.max())
    ```
    """

    is_change = True

    @abc.abstractmethod
    def change(self, before: np.ndarray, after: np.ndarray) -> float:
        """How much one bias changed.

        Args:
            before: float64 array of shape `(size,)`.
            after: float64 array of shape `(size,)`.

        Returns:
            A float: 0 where they are equal, finite for zeros.
        """

    def values(self, model, terms, before):
        return [
            self.change(start.astype("float64"), term.value().astype("float64"))
            for term, start in zip(terms, before or [], strict=True)
        ]
