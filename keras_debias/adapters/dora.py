import keras
import numpy as np

from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter import replace_adapter
from keras_debias.adapters.constrain import require_clean
from keras_debias.adapters.constrain import require_free
from keras_debias.adapters.lora import LoRA
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.layers.kernel_forms import DoRAKernel
from keras_debias.linalg import kernel_view


@keras.saving.register_keras_serializable(package="keras_debias")
class DoRA(LoRA):
    """Weight-decomposed LoRA: lengths and directions train separately.

    Each kernel column (the weights of one output) is a length times a
    direction. The direction is that of `V = W + s A B`. The length is a
    separate weight `m`, which starts at the length of the column. The layers
    compute `y_j = m_j (x V)_j / |V_j|`. That is one more weight for each
    output than `LoRA` has.

    Args:
        rank: int. Rank of each update. Defaults to `8`.
        alpha, dropout, rank_stabilized, targets, train_bias: As for `LoRA`,
            with its defaults.
        protected: `kd.constraints.OrthogonalUpdate`. Length and direction are
            those of the kernel without its part along these directions.
            `projections.Subspace` sets it. Defaults to `None`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.DoRA(rank=8))
    ```

    Reference:
        [Liu et al., 2024](https://arxiv.org/abs/2402.09353). As in its section
        4.3, and in PEFT, `|V_j|` is a constant to the gradient. PEFT's dropout
        also applies to the scaled part of the pretrained product, ours to the
        factors only. A column of zeros stays zero.
    """

    def __init__(
        self,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        targets=("query", "value"),
        train_bias=False,
        protected=None,
    ):
        super().__init__(
            rank, alpha, dropout, rank_stabilized, targets, train_bias
        )
        if isinstance(protected, dict):
            protected = keras.saving.deserialize_keras_object(protected)
        self.protected = protected

    @property
    def form(self):
        return DoRAKernel(super().form, self.protected)

    def constrain(self, path, layer, vectors, side):
        constraint = OrthogonalUpdate(vectors, side)
        variable = self.trained_factor(path, layer, side)
        require_free(path, variable)
        view = kernel_view(layer)
        if side == "write" and layer.kernel.shape[-1] != view.outputs:
            raise ValueError(
                "Expected a layer with one axis of outputs, the last, for "
                "`DoRA` and directions that are written to. Received: "
                f"'{path}' with the kernel {tuple(layer.kernel.shape)}. Use "
                "`LoRA`."
            )
        protected = layer.form.protected
        same = protected is not None and (
            protected.get_config() == constraint.get_config()
        )
        scale = np.linalg.norm(as_array(layer.lora_magnitude))
        learned = require_clean(
            path, self.kernel_update(layer), constraint, scale
        )
        if not same and learned > 1e-6 * scale:
            raise ValueError(
                "Expected a `DoRA` that has learned nothing, or was kept from "
                f"the same directions. Received: '{path}', which has "
                "learned. Apply the adapter to a fresh model."
            )

        def change():
            if not same:
                # A value that knows the split: it is saved with the adapter.
                config = {**self.get_config(), "protected": constraint}
                adapter = type(self)(**config)
                replace_adapter(layer, self, adapter)
                layer.form = adapter.form
                magnitude = layer.form.start_magnitude(layer)
                layer.lora_magnitude.assign(magnitude)
            variable.constraint = constraint
            variable.assign(constraint(variable))
            return [variable]

        return change

    def ablated_values(self, layer, constraint):
        raise ValueError(
            "Expected adapters whose update is a product of factors. "
            f"Received: '{layer.name}' with {self!r}. Merge it first."
        )

    def get_config(self):
        protected = self.protected
        if protected is not None:
            protected = keras.saving.serialize_keras_object(protected)
        return {**super().get_config(), "protected": protected}
