import keras
import numpy as np

from keras_debias.adapters.bias_forms.bias_form import BiasForm
from keras_debias.utils.numbers import require_seed


@keras.saving.register_keras_serializable(package="keras_debias")
class VeRAScalarBias(BiasForm):
    """One trained number for a whole bias: `b + s v`.

    `v` is a frozen random vector of independent standard normal entries, and
    `s` starts at zero.

    Args:
        seed: int. Seed of `v`. Defaults to `0`.

    Raises:
        ValueError: If `seed` is out of range.

    Example:

    ```python
    kd.adapters.ValueBias(form=kd.adapters.VeRAScalarBias())
    ```

    Reference:
        BEFT (Huang et al.), appendix C.4, "VeRA 1d". The paper says that one
        scalar is "directly applied" to the bias (1.3 per mille of 768). That
        it scales a random direction, as the two vectors of VeRA do, is our
        reading: scaling the bias itself would not work for injected biases.
    """

    def __init__(self, seed=0):
        require_seed(seed)
        self.seed = seed

    def start(self, size, base):
        direction = np.random.default_rng(self.seed).standard_normal(size)
        return {
            "direction": (direction.astype("float32"), False),
            "scale": (np.zeros((), "float32"), True),
        }

    def delta(self, variables, base):
        return variables["scale"] * variables["direction"]

    def get_config(self):
        return {"seed": self.seed}
