import keras
from keras import ops

from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class GeneralizedCrossEntropy:
    """The bias-amplified objective: `(1 - exp(-q * loss)) / q` a sample.

    For a cross entropy `loss = -log p` this is `(1 - p^q) / q`, whose
    gradient is the sample's own, weighted by `p^q`: what the model already
    finds easy counts more, and shortcuts are easy. It works on the unreduced
    values of the compiled loss, from logits or probabilities, per sample or
    per token. Losses that are not a negative log-likelihood, such as that of
    a regression, are refused: their `exp(-loss)` is not a probability.

    Args:
        q: float in (0, 1]. The degree of amplification; as `q` goes to zero
            the objective becomes the loss itself. Defaults to `0.7`.

    Raises:
        ValueError: If `q` is out of range.

    Example:

    >>> round(float(GeneralizedCrossEntropy(q=1.0)(-np.log(0.25))), 4)
    0.75

    Reference:
        [Zhang and Sabuncu, 2018](https://arxiv.org/abs/1805.07836)
    """

    of_probabilities = True

    def __init__(self, q=0.7):
        if not (is_number(q) and 0 < q <= 1):
            raise ValueError(
                f"Expected `q` in (0, 1]. Received: q={q!r}. "
                "For plain fine-tuning use `TaskOnly()`."
            )
        self.q = q

    def __call__(self, losses):
        return -ops.expm1(-self.q * losses) / self.q

    def get_config(self):
        return {"q": self.q}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    # Equal objectives share one backward pass.
    def __eq__(self, other):
        return type(other) is type(self) and other.q == self.q

    def __hash__(self):
        return hash((type(self), self.q))
