import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.constrain import matrix_of
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.kernel_forms import LoftQKernel
from keras_debias.linalg import kernel_view
from keras_debias.linalg import truncated_svd
from keras_debias.utils.networks import network_of


@keras.saving.register_keras_serializable(package="keras_debias")
class LoftQ(LoRA):
    """LoRA on a quantized base, which starts from the quantization error.

    `A` and `B` start as the leading part of the singular value decomposition
    of `W - Q`, with `W` the kernel before it was quantized and `Q` after. So
    applying it changes the outputs: they come closer to those before
    quantization. While disabled, the model is the quantized one.

    `adapters.apply(..., data=original)` takes the model before quantization,
    which is not changed.

    A learning rate to start from is that of `LoRA`.

    Args:
        rank: int. Rank of each update. Defaults to `16`.
        **settings: `alpha`, `dropout`, `rank_stabilized`, `targets` and
            `train_bias`, as for `LoRA`.

    Raises:
        ValueError: If an argument is out of range; when applied, if `data` is
            missing, a kernel is not quantized, or the original has other
            layers.
        TypeError: When applied, if `data` is not a model.

    Example:

    ```python
    quantized = keras.models.clone_model(original)
    quantized.set_weights(original.get_weights())
    quantized.quantize("int4")
    kd.adapters.apply(
        quantized, kd.adapters.LoftQ(rank=16), also_train=(), data=original
    )
    ```

    Reference:
        [Li et al., 2023](https://arxiv.org/abs/2310.08659) with one step, as
        PEFT's `replace_lora_weights_loftq`: the paper quantizes `W - A B`
        again and repeats, which changes the base.
    """

    needs_data = True

    def __init__(self, rank=16, **settings):
        super().__init__(rank, **settings)

    @property
    def form(self):
        return LoftQKernel(self.rank)

    def prepare_all(self, model, layers, data):
        if not isinstance(data, keras.Model):
            raise TypeError(
                "Expected `data` to be the model before it was quantized. "
                f"Received: data={data!r}"
            )
        originals, found = layer_paths(network_of(data)), []
        for path, layer in layers.items():
            self.check(path, layer)
            if layer.quantization_mode is None:
                raise ValueError(
                    "Expected a quantized kernel, of which something is lost. "
                    f"Received: '{path}' in floats. Call `model.quantize` "
                    "first, or use `LoRA`."
                )
            other, view = originals.get(path), kernel_view(layer)
            fits = (
                other is not None
                and original_class(other) is not None
                and other.built
                and other.quantization_mode is None
                and kernel_view(other) == view
            )
            if not fits:
                raise ValueError(
                    "Expected the original model, in floats, with a layer "
                    f"'{path}' of the same shape. Received: `data` without "
                    "one. Build it as the model that was quantized."
                )
            found.append((view, other))
        return [
            self._start_from(view, layer, other)
            for layer, (view, other) in zip(layers.values(), found)
        ]

    def _start_from(self, view, layer, other):
        kernel = _keras_internals.dequantized_kernel(layer)
        lost = ops.cast(other.kernel, "float32") - ops.cast(kernel, "float32")
        lost = matrix_of(view, ops.convert_to_numpy(lost))
        u, s, vt = truncated_svd(lost, self.rank)
        root = np.sqrt(s / self.scaling)
        return u * root, root[:, None] * vt
