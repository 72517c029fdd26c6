import keras

from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.identity import identity
from keras_debias.projections.edge import validate_alpha
from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class Subtraction(Projection):
    """Subtracts a multiple of the bias gradient: `update = G - alpha B`.

    An ablation of EDGE.

    When it helps: little; it is EDGE's ablation. Colored digits at 0.99, alpha
    of 0.5, five seeds: 35.7 % correct where the color misleads (plain 34.6).

    Args:
        alpha: float, at least 0. The multiple. Defaults to `0.5`.
        q: float in (0, 1]. Degree of amplification of the bias objective.
            Defaults to `0.7`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = kd.DebiasedModel(
        classifier, projection=kd.projections.Subtraction(alpha=0.5)
    )
    ```

    Reference:
        EDGE (CCL 2025), Figure 4.
    """

    def __init__(self, alpha=0.5, q=0.7):
        validate_alpha(alpha)
        self.alpha = alpha
        self.bias = GeneralizedCrossEntropy(q)

    @property
    def objectives(self):
        return {"task": identity, "bias": self.bias}

    def project(self, gradients, variables):
        return [
            g - self.alpha * b
            for g, b in zip(gradients["task"], gradients["bias"])
        ]

    def get_config(self):
        return {"alpha": self.alpha, "q": self.bias.q}
