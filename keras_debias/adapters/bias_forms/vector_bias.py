import keras
import numpy as np

from keras_debias.adapters.bias_forms.bias_form import BiasForm


@keras.saving.register_keras_serializable(package="keras_debias")
class VectorBias(BiasForm):
    """The bias itself trains: one weight for each entry.

    Example:

    ```python
    kd.adapters.ValueBias(form=kd.adapters.VectorBias())
    ```

    Reference:
        BEFT (Huang et al.), section 2.
    """

    def start(self, size, base):
        return {"": (np.zeros(size, "float32"), True)}

    def delta(self, variables, base):
        return variables[""]
