import keras
import numpy as np
from keras import ops

from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight


class LoRAKernel(KernelForm):
    """`A` starts random, `B` at zero, and both train.

    Args:
        rank: int. Columns of `A` and rows of `B`.
        train_a: bool. Whether `A` trains. Defaults to `True`.
    """

    def __init__(self, rank, train_a=True):
        super().__init__(rank)
        self.train_a = train_a

    def weights(self, inputs, outputs):
        return {
            "lora_a": Weight((inputs, self.rank), self.train_a),
            "lora_b": Weight((self.rank, outputs)),
        }

    def initial(self, layer, start):
        # The usual start of LoRA: uniform in +-1/sqrt(inputs).
        uniform = keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform"
        )
        return {"lora_a": uniform, "lora_b": keras.initializers.Zeros()}

    def factors(self, values):
        return (
            ops.convert_to_tensor(values["lora_a"]),
            ops.convert_to_tensor(values["lora_b"]),
        )

    def names_of(self, side):
        return ["lora_a" if side == "read" else "lora_b"]

    def reset(self, layer):
        return {"lora_b": np.zeros(layer.lora_b.shape, "float32")}
