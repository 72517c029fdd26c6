import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight


class AdaLoRAKernel(KernelForm):
    """An update `P diag(e) Q` in the form of a singular value decomposition.

    `P` and `Q` start random and `e` at zero. A mask of ones and zeros, which
    does not train, says which of the triplets are left.

    Args:
        rank: int. How many triplets there are at the start.
    """

    has_direct_factors = False

    def weights(self, inputs, outputs):
        return {
            "lora_a": Weight((inputs, self.rank)),
            "lora_e": Weight((self.rank,)),
            "lora_b": Weight((self.rank, outputs)),
            "lora_mask": Weight((self.rank,), False),
        }

    def initial(self, layer, start):
        return {
            "lora_a": keras.initializers.RandomNormal(stddev=0.02),
            "lora_b": keras.initializers.RandomNormal(stddev=0.02),
            **self.reset(layer),
        }

    def factors(self, values):
        with _keras_internals.without_autocast():
            scales = values["lora_e"] * values["lora_mask"]
            return (
                values["lora_a"] * scales,
                ops.convert_to_tensor(values["lora_b"]),
            )

    def names_of(self, side):
        return ["lora_a" if side == "read" else "lora_b"]

    def reset(self, layer):
        return {
            "lora_e": np.zeros(self.rank, "float32"),
            "lora_mask": np.ones(self.rank, "float32"),
        }
