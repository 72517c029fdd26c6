"""The common part of layers with a low-rank update."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.adapted_layer import initial
from keras_debias.layers.kernel_forms import Weight
from keras_debias.linalg import kernel_view
from keras_debias.utils.numbers import is_number


def validate_low_rank(rank, alpha, dropout) -> None:
    """Raises if the settings of a low-rank update are invalid."""
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(
            f"Expected `rank` to be a positive integer. Received: rank={rank!r}"
        )
    if alpha is not None and not (is_number(alpha) and alpha > 0):
        raise ValueError(
            "Expected `alpha` to be a positive finite number, or `None` "
            f"for `alpha=rank`. Received: alpha={alpha!r}"
        )
    if not (is_number(dropout) and 0 <= dropout < 1):
        raise ValueError(
            f"Expected `dropout` in [0, 1). Received: dropout={dropout!r}"
        )


def scaling(rank: int, alpha: float | None, rank_stabilized: bool) -> float:
    """The factor `s` before a low-rank update."""
    alpha = rank if alpha is None else alpha
    return alpha / (rank**0.5 if rank_stabilized else rank)


@contextlib.contextmanager
def without_low_rank(layers):
    """A context in which calls leave out low-rank updates.

    A gate of zero multiplies the update by zero; this context does not
    compute the update. It takes effect when a call is traced, so it does not
    replace the gate.
    """
    chosen = [layer for layer in layers if isinstance(layer, LowRankUpdate)]
    for layer in chosen:
        layer.__dict__["low_rank_is_off"] = True
    try:
        yield
    finally:
        for layer in chosen:
            layer.__dict__.pop("low_rank_is_off")


class LowRankUpdate(AdaptedLayer):
    """A low-rank update beside a frozen kernel: `y = x W + s (x A) B`.

    Mixed into `Dense` and `EinsumDense`. A `KernelForm` defines which weights
    make `A` and `B`. This class holds the weights, adds the update to the
    outputs and merges it. With initial factors the update is
    `s ((x A) B - (x A0) B0)`, so the outputs do not change at the start.
    """

    # See `without_low_rank`.
    low_rank_is_off = False
    low_rank_constants: dict

    def call(self, inputs, training=None):
        return self._adapt(self._product(inputs), inputs, training)

    def quantized_call(self, inputs, training=None):
        product = _keras_internals.quantized_product(self, inputs)
        return self._adapt(product, inputs, training)

    def _adapt(self, product, inputs, training):
        x = product
        if not self.low_rank_is_off:
            x = ops.add(x, self._update(inputs, training))
            x = self.form.outputs(self, x, inputs)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def add_low_rank(
        self,
        form,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        start=None,
        train_bias=False,
    ):
        """Adds the weights of the update and freezes the kernel.

        Args:
            form: `KernelForm`.
            alpha: float. Numerator of the scale, `None` for the rank.
            dropout: float in [0, 1). Dropout on the inputs of the update.
            rank_stabilized: bool. Whether the scale is `alpha / sqrt(rank)`.
            start: a pair of arrays `(A0, B0)` of shapes `(inputs, rank)` and
                `(rank, outputs)`, or `None`; or a function that returns the
                pair once the kernel has its values.
            train_bias: bool. Whether the bias trains.
        """
        view = kernel_view(self)
        self.form = form
        self.rank = form.rank
        self.alpha = form.rank if alpha is None else alpha
        self.dropout = dropout
        self.rank_stabilized = rank_stabilized
        self.train_bias = train_bias
        weights = form.weights(view.inputs, view.outputs)
        if callable(start):
            values = _WhenBuilt(self, form, start)
        else:
            values = form.initial(self, start)
        for name, weight in weights.items():
            setattr(self, name, self._add_part(name, weight, values[name]))
        # Not attributes: they are not part of the layer's state.
        self.__dict__["low_rank_constants"] = form.constants(
            view.inputs, view.outputs
        )
        # A variable and not a Python flag: compiled functions see it change.
        self.lora_gate = self._add_part(
            "lora_gate", Weight((), False), keras.initializers.Ones()
        )
        if dropout:
            self.lora_seed = keras.random.SeedGenerator()
        for name, weight in weights.items():
            getattr(self, name).trainable = weight.trainable
        _keras_internals.base_variables(self)["kernel"].trainable = False
        if self.base_bias is not None and train_bias:
            self.base_bias.trainable = True

    def _add_part(self, name, weight, value):
        if not callable(value):
            value = initial(value)
        return self.add_weight(
            name=name,
            shape=weight.shape,
            initializer=value,
            # Not the dtype of the base, which may round small updates away.
            dtype="float32",
            trainable=weight.trainable,
        )

    def remove_low_rank(self):
        """Removes the weights of the update."""
        state = self.low_rank_state
        for variable in (*state.values(), self.lora_gate):
            _keras_internals.remove_weight(self, variable)
        if self.dropout:
            _keras_internals.remove_seed_generator(self, self.lora_seed)
        for name in (
            *("form", "rank", "alpha", "dropout", "rank_stabilized"),
            *("train_bias", "lora_gate", "lora_seed", "low_rank_constants"),
            *state,
        ):
            _keras_internals.forget(self, name)

    @property
    def low_rank_state(self) -> dict[str, keras.Variable]:
        """The weights of the update by name."""
        view = kernel_view(self)
        names = self.form.weights(view.inputs, view.outputs)
        return {name: getattr(self, name) for name in names}

    @property
    def low_rank_values(self) -> dict:
        """The weights and constants from which the form makes the factors."""
        return {**self.low_rank_state, **self.low_rank_constants}

    def adapter_state(self):
        return {**super().adapter_state(), **self.low_rank_state}

    @property
    def scaling(self) -> float:
        """The factor `s` before the update."""
        return scaling(self.rank, self.alpha, self.rank_stabilized)

    def _update(self, x, training):
        """The low-rank path for the inputs `x` of the layer."""
        view = kernel_view(self)

        def path(x, a, b):
            # Keras casts these only if the dtype policy is mixed.
            a, b, scale = (
                ops.cast(part, self.compute_dtype)
                for part in (a, b, self.lora_gate * self.scaling)
            )
            return view.up(view.down(x, a) * scale, b)

        if not (self.dropout and training):
            return path(x, *self.update_factors())
        values = self.low_rank_values
        dropped = keras.random.dropout(x, self.dropout, seed=self.lora_seed)
        update = path(dropped, *self.form.factors(values))
        start = self.form.start_factors(values)
        return update if start is None else update - path(x, *start)

    def update_factors(self) -> tuple:
        """Tensors `(P, Q)` whose product, times the scale, is the update."""
        return self.form.update_factors(self.low_rank_values)

    def factors(self) -> tuple:
        """`(P, Q)` with `P Q` the update, inputs x outputs, float64.

        Their rank is that of the update, or twice that with initial factors.
        `(update, None)` if the update is not a product.
        """
        if not self.form.is_product:
            matrix = kernel_view(self).to_matrix(self.delta())
            return ops.convert_to_numpy(matrix).astype("float64"), None
        a, b = (
            ops.convert_to_numpy(x).astype("float64")
            for x in self.update_factors()
        )
        return a * self.scaling, b

    def factors_of(self, side) -> list:
        """The weights that are factors on the side of inputs or outputs."""
        return [getattr(self, name) for name in self.form.names_of(side)]

    def reinitialize(self, start) -> None:
        """Sets other initial factors and resets the update to zero."""
        for name, value in self.form.initial(self, start).items():
            getattr(self, name).assign(np.array(value, "float32"))

    def delta(self):
        """The change of the kernel as a full kernel, float32."""
        matrix = ops.matmul(*self.update_factors())
        matrix = matrix * self.lora_gate * self.scaling
        matrix = self.form.change(self, matrix)
        return kernel_view(self).from_matrix(matrix)

    def merged_kernel(self):
        """The kernel with the update added, in the kernel's dtype."""
        self.check_merge()
        merged = ops.cast(self.kernel.value, "float32") + self.delta()
        return ops.cast(merged, self.kernel.dtype)

    def reset_updates(self):
        super().reset_updates()
        for name, value in self.form.reset(self).items():
            getattr(self, name).assign(value)


class _WhenBuilt:
    """Initializers of weights that start from the kernel.

    A layer that is built while its model is traced has no kernel yet.
    """

    def __init__(self, layer, form, start):
        self._layer = layer
        self._form = form
        self._start = start
        self._values = {}

    def __getitem__(self, name):
        def initialize(shape, dtype=None):
            kernel = _keras_internals.base_variables(self._layer)["kernel"]
            if not _keras_internals.has_value(kernel):
                return ops.zeros(shape, dtype)
            if name not in self._values:
                self._values = dict(
                    self._form.initial(self._layer, self._start())
                )
            value = self._values.pop(name)
            if not isinstance(value, keras.initializers.Initializer):
                value = initial(value)
            return value(shape, dtype)

        return initialize
