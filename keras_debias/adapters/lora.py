import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import Adapter
from keras_debias.layers import LoRADense
from keras_debias.layers import LoRAEinsumDense
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.layers.low_rank import validate_low_rank
from keras_debias.linalg import kernel_view


def _in_place(layer_class, plain_class):
    """A layer class under the plain one's name.

    Keras files hold the layers of a model by the name of their class; what
    an adapted model saves must be found again by the model without adapters.
    """
    adapted = type(plain_class.__name__, (layer_class,), {})
    return keras.saving.register_keras_serializable(
        "keras_debias", name=f"Adapted{plain_class.__name__}"
    )(adapted)


_CLASSES = {
    keras.layers.Dense: _in_place(LoRADense, keras.layers.Dense),
    keras.layers.EinsumDense: _in_place(
        LoRAEinsumDense, keras.layers.EinsumDense
    ),
}


@keras.saving.register_keras_serializable(package="keras_debias")
class LoRA(Adapter):
    """Low-rank adaptation: trains `A B` beside frozen kernels.

    The layers compute `x W + s (x A) B` with `s = alpha / rank`, where `A`
    starts random and `B` at zero. `A` and `B` live on the 2-D view of the
    kernel (inputs x outputs), so that rank and parameter count are those of
    PEFT: rank 8 on query and value of a 6-layer encoder of width 384 trains
    73,728 parameters.

    Args:
        rank: int. Rank of each update, at most the smaller side of the
            kernel. Defaults to `8`.
        alpha: float. Numerator of the scale. `None` means `rank`, a scale
            of one. Defaults to `None`.
        dropout: float in [0, 1). Dropout on the inputs of the update only.
            Defaults to `0.0`.
        rank_stabilized: bool. Scale by `alpha / sqrt(rank)`. Defaults to
            `False`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. `Dense` and `EinsumDense` layers to adapt.
            Defaults to `("query", "value")`.
        train_bias: bool. Whether the biases of the adapted layers train.
            Defaults to `False`.

    Raises:
        ValueError: If `rank`, `alpha` or `dropout` is out of range.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
    ```

    Reference:
        [Hu et al., 2022](https://arxiv.org/abs/2106.09685)
    """

    kind = "low_rank"

    def __init__(
        self,
        rank=8,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        targets=("query", "value"),
        train_bias=False,
    ):
        validate_low_rank(rank, alpha, dropout)
        super().__init__(targets)
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.rank_stabilized = rank_stabilized
        self.train_bias = train_bias

    def accepts(self, layer):
        return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))

    def prepare(self, path, layer):
        self.check(path, layer)
        return self.start(path, layer)

    def check(self, path, layer):
        """Raises if the layer cannot take this adapter."""
        if isinstance(layer, LowRankUpdate):
            raise ValueError(
                "Expected a layer without a low-rank adapter. Received: "
                f"'{path}', which has one of rank {layer.rank}. Merge the "
                "first one with `adapters.merge`, or choose other `targets`."
            )
        if type(layer) not in _CLASSES:
            raise ValueError(
                "Expected a `Dense` or `EinsumDense` layer. Received: "
                f"'{path}' of the subclass `{type(layer).__name__}`, whose "
                "`call` an adapter cannot know. Leave it out of `targets`."
            )
        if not layer.built:
            raise ValueError(
                "Expected a built model. Received: the layer "
                f"'{path}' has no weights yet. Call the model on a batch "
                "before `adapters.apply`."
            )
        if layer.quantization_mode is not None or layer.lora_enabled:
            state = layer.quantization_mode or "enable_lora"
            raise ValueError(
                "Expected a layer in its original form. Received: "
                f"'{path}', changed by Keras ({state}). Apply the adapter to "
                "a fresh model."
            )
        view = kernel_view(layer)
        smaller = min(view.inputs, view.outputs)
        if self.rank > smaller:
            raise ValueError(
                f"Expected `rank` to be at most {smaller}, the smaller side "
                f"of the kernel of '{path}' ({view.inputs} x {view.outputs}). "
                f"Received: rank={self.rank}"
            )

    def start(self, path, layer) -> tuple[np.ndarray, np.ndarray] | None:
        """Starting factors `(A0, B0)`, or `None` for random and zero."""
        return None

    def placeholder(self, layer):
        """What `start` gives, before weights are loaded over it."""
        return None

    @property
    def settings(self) -> dict:
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "rank_stabilized": self.rank_stabilized,
            "train_bias": self.train_bias,
        }

    def attach(self, layer, prepared):
        def change():
            layer.add_low_rank(start=prepared, **self.settings)
            layer.adapter = self

        _keras_internals.become(layer, _CLASSES[type(layer)], change)

    def get_config(self):
        return {**super().get_config(), **self.settings}
