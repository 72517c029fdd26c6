import keras
import numpy as np

from keras_debias.analysis.change_measure import ChangeMeasure


@keras.saving.register_keras_serializable(package="keras_debias")
class MagnitudeChange(ChangeMeasure):
    """Mean absolute change of the entries of a bias.

    For a bias that was `b0` and is `b1`, the mean of `|b1 - b0|`. A term's
    total is the mean over the entries of all layers. Zero biases are no
    special case.

    Example:

    ```python
    ranking = kd.analysis.rank_bias_terms(
        classifier, kd.analysis.MagnitudeChange()
    )
    ```

    Reference:
        [Ben Zaken et al., 2022](https://arxiv.org/abs/2106.10199), as in
        BEFT, appendix A.1.
    """

    name = "magnitude change"

    def change(self, before, after):
        return float(np.abs(after - before).mean())

    def total(self, values, sizes):
        return float(np.average(values, weights=sizes))
