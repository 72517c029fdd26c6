import keras
from keras import ops

from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class Focal:
    """Turns a cross entropy into the focal loss: `(1 - p)^gamma * loss`.

    With `p = exp(-loss)` it works on the values of whatever cross entropy is
    compiled, sparse labels too; on one-hot labels it is Keras'
    `CategoricalFocalCrossentropy` with `alpha=1`.

    Args:
        gamma: float, at least 0. `0` is the cross entropy. Defaults to `2.0`.

    Raises:
        ValueError: If `gamma` is out of range.

    Example:

    ```python
    method = kd.recipes.FineTuning(
        objective=kd.losses.PerRow(kd.losses.Focal(gamma=2.0))
    )
    ```

    Reference:
        [Lin et al., 2017](https://arxiv.org/abs/1708.02002), without the
        class weight `alpha`.
    """

    def __init__(self, gamma=2.0):
        if not (is_number(gamma) and gamma >= 0):
            raise ValueError(
                "Expected `gamma` to be a finite number of at least 0. "
                f"Received: gamma={gamma!r}"
            )
        self.gamma = gamma

    def __call__(self, losses):
        # A probability of one has no slope to a power below one.
        wrong = ops.maximum(-ops.expm1(-losses), 1e-7)
        return ops.power(wrong, self.gamma) * losses

    def get_config(self):
        return {"gamma": self.gamma}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    # Equal objectives share one backward pass.
    def __eq__(self, other):
        return type(other) is type(self) and other.gamma == self.gamma

    def __hash__(self):
        return hash((type(self), self.gamma))
