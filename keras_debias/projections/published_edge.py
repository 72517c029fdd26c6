import keras
from keras import ops

from keras_debias.linalg import norm
from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.identity import identity
from keras_debias.projections.edge import validate_alpha
from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class PublishedEDGE(Projection):
    """EDGE as the authors' code computes it, for comparison only.

    It differs from the paper's equations, and from `EDGE`, in three points:
    the bias gradient is multiplied by `q`; `common` is not normalized in the
    projection (10); and the dot products of (10) are taken for each row of
    torch's `(out, in)` matrices, which are the columns here. Only 2-D
    variables are projected.

    Args:
        alpha: float, at least 0. Factor of the part that is subtracted.
            Defaults to `0.5`.
        q: float in (0, 1]. Degree of amplification. Defaults to `0.7`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = kd.DebiasedModel(
        classifier, projection=kd.projections.PublishedEDGE()
    )
    ```

    Reference:
        EDGE (CCL 2025), the released training script.
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
            self._project(g, b) if len(g.shape) == 2 else g
            for g, b in zip(gradients["task"], gradients["bias"])
        ]

    def _project(self, task, bias):
        bias = self.bias.q * ops.cast(bias, "float32")
        common = _unit(task) + _unit(bias)
        along = ops.sum(bias * common, axis=0, keepdims=True)
        extra = bias - along * common
        return ops.cast(
            ops.cast(task, "float32") - self.alpha * extra, task.dtype
        )

    def get_config(self):
        return {"alpha": self.alpha, "q": self.bias.q}


def _unit(gradient):
    length = norm([gradient])
    length = ops.where(length == 0, ops.ones_like(length), length)
    return ops.cast(gradient, "float32") / length
