import keras
from keras import ops

from keras_debias.regularizers.label_means import LabelTerm
from keras_debias.regularizers.label_means import smooth_norm
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelDiscrimination(LabelTerm):
    """The discrimination of labels, negated: `bal2`.

    `-||H^C - H^N||` over the labels that some rows of the batch have and
    others do not; see `LabelPropensity`. The term has no lower bound. With
    `cap`, a larger norm counts as `cap` and has no gradient.

    Args:
        weight: float or schedule. `gamma`. Defaults to `1.0`.
        cap: float above 0, or `None` for none. The largest norm that counts.
            Defaults to `None`, as in the paper.
        smoothing: float above 0. See `LabelPropensity`. Defaults to `1e-3`.
        name: string. Defaults to `None`: `"label_discrimination"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> scores = ops.array([[2.0, 0.0], [0.0, 1.0]])
    >>> labels = ops.array([[1.0, 0.0], [0.0, 1.0]])
    >>> float(LabelDiscrimination(cap=1.0).call(labels, scores))
    -1.0

    Reference:
        Bias-aware PEFT, equation 3.
    """

    def __init__(self, weight=1.0, cap=None, smoothing=1e-3, name=None):
        super().__init__(weight, smoothing, name)
        if cap is not None and not (is_number(cap) and cap > 0):
            raise ValueError(
                "Expected `cap` to be a finite number above 0, or `None`. "
                f"Received: cap={cap!r}"
            )
        self.cap = cap

    def value(self, contain, lack, has_contain, has_lack):
        both = has_contain * has_lack
        norm = smooth_norm((contain - lack) * both, self.smoothing)
        return -norm if self.cap is None else -ops.minimum(norm, self.cap)

    def get_config(self):
        return {**super().get_config(), "cap": self.cap}
