import keras

from keras_debias.linalg import remove_component
from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.identity import identity
from keras_debias.projections.projection import Projection


@keras.saving.register_keras_serializable(package="keras_debias")
class Orthogonal(Projection):
    """Removes from the task's gradient its part along the bias gradient.

    `update = G - (G . b) b` with `b = B / |B|`, for each variable. An
    ablation of EDGE.

    When it helps: not as a method of its own; it is EDGE's ablation. The task
    gradient and the bias-amplified gradient point almost the same way, so
    nothing of the task is left. Colored digits at 0.95, five seeds: 11.1 %
    correct where the color misleads (plain 65.9).

    Args:
        q: float in (0, 1]. Degree of amplification of the bias objective.
            Defaults to `0.7`.

    Raises:
        ValueError: If `q` is out of range.

    Example:

    ```python
    model = kd.DebiasedModel(
        classifier, projection=kd.projections.Orthogonal()
    )
    ```

    Reference:
        EDGE (CCL 2025), Figure 4. Equation (7) as printed is not a
        projection; this is the one it describes.
    """

    def __init__(self, q=0.7):
        self.bias = GeneralizedCrossEntropy(q)

    @property
    def objectives(self):
        return {"task": identity, "bias": self.bias}

    def project(self, gradients, variables):
        return [
            remove_component([g], [b])[0]
            for g, b in zip(gradients["task"], gradients["bias"])
        ]

    def get_config(self):
        return {"q": self.bias.q}
