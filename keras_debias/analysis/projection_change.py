import keras
import numpy as np

from keras_debias.analysis.change_measure import ChangeMeasure


@keras.saving.register_keras_serializable(package="keras_debias")
class ProjectionChange(ChangeMeasure):
    """Change in length and angle: BEFT's own measure.

    For a bias that was `b0` and is `b1`

        change = 1 - (b0 . b1) / max(|b0|, |b1|)^2,

    the shorter of the two projected on the longer one: 0 for no change, 1
    for a right angle, 2 for the opposite. A term's total is the sum over the
    layers.

    Where one of the two is zero the change is 1, by the formula; where both
    are, it is 0, by definition. So an injected bias has 1 as soon as it
    moves, however little: rank injected ones by `MagnitudeChange` or
    `FisherInformation`.

    Example:

    ```python
    ranking = kd.analysis.rank_bias_terms(
        classifier, kd.analysis.ProjectionChange()
    )
    ```

    Reference:
        BEFT: Huang, Balashankar and Aminifar, *Bias-Efficient Fine-Tuning of
        Language Models in Low-Data Regimes*, section 2 and appendix A.3. The
        paper leaves zero biases open; all else is the same.
    """

    name = "projection change"

    def change(self, before, after):
        longest = max(before @ before, after @ after)
        return 1 - float(before @ after / longest) if longest else 0.0

    def total(self, values, sizes):
        return float(np.sum(values))
