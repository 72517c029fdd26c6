import keras
from keras import ops

from keras_debias.regularizers.label_means import LabelTerm
from keras_debias.regularizers.label_means import smooth_norm


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelPropensity(LabelTerm):
    """How unequal the mean scores of labels are: `bal1`.

    `||H^C - mean(H^C)|| + ||H^N - mean(H^N)||` over the labels of a batch,
    where `H^C` holds each label's mean score over the rows that have it, and
    `H^N` its mean score over the other rows. Labels that no row has are left
    out; those that every row has are left out of the second norm.

    Args:
        weight: float or schedule. `beta`. Defaults to `1.0`.
        smoothing: float above 0. The norms are `sqrt(n^2 + s^2) - s`, whose
            gradient at zero is zero. Defaults to `1e-3`.
        name: string. Defaults to `None`: `"label_propensity"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> scores = ops.array([[2.0, 0.0], [0.0, 1.0]])
    >>> labels = ops.array([[1.0, 0.0], [0.0, 1.0]])
    >>> round(float(LabelPropensity().call(labels, scores)), 2)
    0.71

    Reference:
        Bias-aware PEFT, equation 2.
    """

    def value(self, contain, lack, has_contain, has_lack):
        def spread(means, present):
            count = ops.maximum(ops.sum(present), 1.0)
            center = ops.sum(means * present) / count
            return smooth_norm((means - center) * present, self.smoothing)

        first = spread(contain, has_contain)
        return first + spread(lack, has_contain * has_lack)
