import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.constrain import matrix_of
from keras_debias.adapters.measured_lora import MeasuredLoRA
from keras_debias.linalg import kernel_view
from keras_debias.linalg import truncated_svd
from keras_debias.utils.gradients import recorded_gradients
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRAGA(MeasuredLoRA):
    """LoRA whose first update is close to that of full fine-tuning.

    With the singular value decomposition `U S V'` of the gradient of a kernel
    (inputs x outputs) on some rows of data, `A` starts as the first `rank`
    columns of `U`, `B` as the next `rank` rows of `V'`, both times
    `outputs^(1/4) / sqrt(gamma)`. Their product is subtracted, so that the
    layer starts as it was.

    `adapters.apply(..., data=rows)` takes the rows, with labels. The loss is
    the one that the model is compiled with, as KerasHub tasks are. The
    gradient is computed for one layer after the other, in as many passes over
    the rows, so memory holds only one gradient.

    A learning rate to start from is that of `PiSSA`, `2e-4`.

    Args:
        rank: int. Rank of each update, at most half of the smaller side of
            the kernel. Defaults to `8`.
        alpha: float. Numerator of the scale. Defaults to `16`.
        rank_stabilized: bool. Scale by `alpha / sqrt(rank)`. Defaults to
            `True`.
        gamma: float. Larger values make the factors smaller. Defaults to `16`.
        batch_size: int. Rows in a pass. Defaults to `8`.
        **settings: `dropout`, `targets` and `train_bias`, as for `LoRA`.

    Raises:
        ValueError: If an argument is out of range; when applied, if `data` is
            missing, the model is not compiled, a kernel is quantized, or a
            gradient is zero or not finite.

    Example:

    ```python
    rows = train.take(range(64))
    kd.adapters.apply(classifier, kd.adapters.LoRAGA(rank=8), data=rows)
    ```

    Reference:
        [Wang et al., 2024](https://arxiv.org/abs/2407.05000), with the
        directions and the scale of the authors' code ("ArB2r", "stable"),
        which leave the singular values out. PEFT 0.21 multiplies `B` by them
        and by the scale, and `A` by nothing. The base is never written to.
    """

    needs_labels = True

    def __init__(
        self,
        rank=8,
        alpha=16,
        rank_stabilized=True,
        gamma=16,
        batch_size=8,
        **settings,
    ):
        super().__init__(
            rank,
            batch_size,
            alpha=alpha,
            rank_stabilized=rank_stabilized,
            **settings,
        )
        if not (is_number(gamma) and gamma > 0):
            raise ValueError(
                "Expected `gamma` to be a positive finite number. Received: "
                f"gamma={gamma!r}"
            )
        self.gamma = gamma

    def check_rank(self, path, view):
        if 2 * self.rank > min(view.inputs, view.outputs):
            raise ValueError(
                "Expected `rank` to be at most half of the smaller side of "
                f"the kernel of '{path}' ({view.inputs} x {view.outputs}): "
                "`A` and `B` take different directions. Received: "
                f"rank={self.rank}"
            )

    def check_start(self, path, layer):
        if layer.quantization_mode is not None:
            raise ValueError(
                "Expected kernels of floats, which have gradients. Received: "
                f"'{path}', quantized to {layer.quantization_mode}. Apply the "
                "adapter before `quantize`, or use `PiSSA`."
            )

    def measure(self, model, layers, batches):
        loss = weights = None
        if getattr(model, "compiled", False):
            loss, weights, _ = _keras_internals.compiled_loss_arguments(model)
        if loss is None:
            raise ValueError(
                "Expected a model with a loss to take the gradient of. "
                f"Received: model={model.name!r}, which is not compiled with "
                "one. Call `model.compile(loss=...)` first."
            )
        # A sum over rows weighs a smaller batch by itself.
        is_sum = getattr(loss, "reduction", None) == "sum"
        batch_size = None if is_sum else self.batch_size
        for layer in layers.values():
            (gradient,) = recorded_gradients(
                *(model, batches, [layer.kernel], loss, weights),
                batch_size=batch_size,
            )
            yield matrix_of(kernel_view(layer), gradient)

    def factors_from(self, path, matrix, measured):
        largest = np.abs(measured).max()
        if not np.isfinite(largest) or largest == 0:
            raise ValueError(
                f"Expected a gradient of '{path}' on `data` that is finite "
                f"and not zero. Received: one of at most {largest}. Look for "
                "broken rows, or leave the layer out of `targets`."
            )
        u, _, vt = truncated_svd(measured / largest, 2 * self.rank)
        scale = matrix.shape[1] ** 0.25 / self.gamma**0.5
        return scale * u[:, : self.rank], scale * vt[self.rank :]

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
