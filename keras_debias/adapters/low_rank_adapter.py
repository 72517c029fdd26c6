import abc

import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import BIAS_CLAIMS
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.adapter import drop_starting_values
from keras_debias.adapters.adapter import frozen_kernel
from keras_debias.adapters.adapter import initial_assignments
from keras_debias.adapters.adapter import remove_adapter
from keras_debias.adapters.adapter import train_base
from keras_debias.adapters.constrain import require_clean
from keras_debias.adapters.constrain import require_free
from keras_debias.adapters.kernel_adapter import KernelAdapter
from keras_debias.adapters.selection import ALL_LINEAR
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.bias_update import BiasUpdate
from keras_debias.layers.class_swap import adapted_class
from keras_debias.layers.kernel_forms import KernelForm
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.layers.low_rank import validate_low_rank
from keras_debias.layers.stand_alone import own_adapter
from keras_debias.layers.stand_alone import trains_base
from keras_debias.linalg import kernel_view
from keras_debias.utils.numbers import require_flags

# How the kernel of a base may be quantized; `None` is not at all.
QUANTIZATIONS = (None, "int8", "int4")


class LowRankAdapter(KernelAdapter):
    """Base class of adapters that train a low-rank update of frozen kernels.

    A subclass defines the `form` of the update and, if it has them, the
    initial factors.
    """

    def __init__(
        self, rank, alpha, dropout, rank_stabilized, targets, train_bias
    ):
        validate_low_rank(rank, alpha, dropout)
        require_flags(rank_stabilized=rank_stabilized, train_bias=train_bias)
        super().__init__(targets)
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.rank_stabilized = rank_stabilized
        self.train_bias = train_bias

    @property
    @abc.abstractmethod
    def form(self) -> KernelForm:
        """The form in which the update trains."""

    def find(self, model, training):
        found = super().find(model, training)
        if not callable(self.targets) and self.targets != ALL_LINEAR:
            return found
        # Layers that were created with an adapter already have one.
        others = {p: x for p, x in found.items() if own_adapter(x) is None}
        return others or found

    def accepts(self, layer):
        return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))

    def exclusive_parts(self, layer):
        if trains_base(layer):
            return {"low_rank", "kernel", *BIAS_CLAIMS}
        return {"low_rank", *(BIAS_CLAIMS if self.train_bias else ())}

    def prepare(self, path, layer):
        self.check(path, layer)
        return self.start(path, layer)

    def check(self, path, layer):
        if isinstance(layer, LowRankUpdate):
            raise ValueError(
                "Expected a layer without a low-rank adapter. Received: "
                f"'{path}', which has one of rank {layer.rank}. Merge the "
                "first one with `adapters.merge`, or choose other `targets`."
            )
        self.check_free(path, layer, "Leave out `train_bias=True`.")
        self.check_layer(path, layer)
        if layer.lora_enabled or layer.quantization_mode not in QUANTIZATIONS:
            state = layer.quantization_mode or "enable_lora"
            raise ValueError(
                "Expected a layer in its original form, or quantized to int8 "
                f"or int4. Received: '{path}', changed by Keras ({state}). "
                "Apply the adapter to a fresh model."
            )
        self.check_rank(path, kernel_view(layer))

    def check_rank(self, path, view) -> None:
        """Raises if the rank does not fit the kernel."""
        smaller = min(view.inputs, view.outputs)
        if self.rank > smaller:
            raise ValueError(
                f"Expected `rank` to be at most {smaller}, the smaller side "
                f"of the kernel of '{path}' ({view.inputs} x {view.outputs}). "
                f"Received: rank={self.rank}"
            )

    def start(
        self, path, layer, constraint=None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Starting factors `(A0, B0)`, or `None` for random and zero.

        Those of the part of the kernel that a constraint leaves, if any.
        """
        return None

    def placeholder(self, layer):
        """A stand-in for `start`, over which weights are loaded."""
        if not self.form.has_start:
            return None
        view = kernel_view(layer)
        return (
            np.zeros((view.inputs, self.rank), "float32"),
            np.zeros((self.rank, view.outputs), "float32"),
        )

    def attach(self, layer, prepared):
        kernel_trains = any(
            "kernel" in a.exclusive_parts(layer) for a in adapters_of(layer)
        )

        def change():
            layer.add_low_rank(
                self.form,
                alpha=self.alpha,
                dropout=self.dropout,
                rank_stabilized=self.rank_stabilized,
                start=prepared,
                train_bias=self.train_bias,
            )
            # It trains besides the factors if another adapter asks for it.
            layer.kernel.trainable = kernel_trains
            if self.train_bias and layer.base_bias is not None:
                train_base(layer, [layer.base_bias])
            add_adapter(layer, self)

        target = adapted_class(layer, True, isinstance(layer, BiasUpdate))
        _keras_internals.swap_class(layer, target, change)

    def kernel_update(self, layer):
        return layer.factors()

    def constrain(self, path, layer, vectors, side):
        constraint = OrthogonalUpdate(vectors, side)
        variable = self.trained_factor(path, layer, side)
        require_free(path, variable)
        learned = require_clean(path, self.kernel_update(layer), constraint)
        # A new start keeps the outputs only if nothing has been learned.
        start = None if learned else self.start(path, layer, constraint)

        def change():
            if start is not None:
                layer.reinitialize(start)
            variable.constraint = constraint
            for each in layer.factors_of(side):
                each.assign(constraint(each))
            return [variable]

        return change

    def trained_factor(self, path, layer, side) -> keras.Variable:
        """The factor on a side of the kernel, if it is a weight."""
        factors = layer.factors_of(side)
        if not factors:
            raise ValueError(
                "Expected adapters whose factors are weights. Received: "
                f"'{path}' with {self!r}, whose factors are fixed at random "
                "and scaled. Use `LoRA`, or `adapters.merge` first."
            )
        return factors[0]

    def ablated_values(self, layer, constraint):
        self.trained_factor(layer.path, layer, constraint.side)
        return [(v, constraint(v)) for v in layer.factors_of(constraint.side)]

    def disabled_values(self, layer):
        pairs = initial_assignments(layer) if self.train_bias else []
        return [(layer.lora_gate, 0.0), *pairs]

    def check_merge(self, path, layer, layers):
        layer.check_merge()

    def merge(self, path, layer, layers):
        layer.kernel.assign(layer.merged_kernel())
        layer.remove_low_rank()
        remove_adapter(layer, self)
        if self.train_bias:
            drop_starting_values(layer, ["bias"])
        layer.__class__ = adapted_class(
            layer, False, isinstance(layer, BiasUpdate)
        )

    def state(self, layer):
        state = layer.low_rank_state
        if trains_base(layer):
            state = {**state, "kernel": layer.kernel}
        trains = self.train_bias or trains_base(layer)
        if trains and layer.base_bias is not None:
            state = {**state, "bias": layer.base_bias}
        return state

    def state_shapes(self, layer):
        view = kernel_view(layer)
        weights = self.form.weights(view.inputs, view.outputs)
        shapes = {name: weight.shape for name, weight in weights.items()}
        if trains_base(layer):
            shapes["kernel"] = tuple(layer.kernel.shape)
        bias = stored_bias(layer)
        if (self.train_bias or trains_base(layer)) and bias is not None:
            shapes["bias"] = tuple(bias.shape)
        return shapes

    def base(self, layer):
        # A kernel that trains as a whole may start from any values.
        return {} if trains_base(layer) else frozen_kernel(layer)
