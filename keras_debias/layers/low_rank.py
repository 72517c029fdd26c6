"""What the layers with a low-rank update share."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.adapted_layer import initial
from keras_debias.layers.kernel_forms import DoRAKernel
from keras_debias.layers.kernel_forms import LoRAKernel
from keras_debias.layers.kernel_forms import StartedKernel
from keras_debias.layers.kernel_forms import Weight
from keras_debias.linalg import kernel_view
from keras_debias.utils.numbers import is_number


def validate_low_rank(rank, alpha, dropout) -> None:
    """Raises for settings that no low-rank update can have."""
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
    """Leaves low-rank updates out of the calls inside.

    A closed gate multiplies an update by zero; this does not compute it. It
    is seen when a call is traced, so it is no replacement for the gate.
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

    Mixed into `Dense` and `EinsumDense`. Which weights make `A` and `B` is
    the business of a `KernelForm`; this class holds the weights, adds the
    update to the outputs and merges it. With starting factors the update is
    `s ((x A) B - (x A0) B0)`: the layer starts as it was.
    """

    # See `without_low_rank`.
    low_rank_is_off = False

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
                `(rank, outputs)`, or `None`.
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
        values = form.initial(self, start)
        for name, weight in weights.items():
            setattr(self, name, self._add_part(name, weight, values[name]))
        # Not as attributes: they are no part of the layer's state.
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
        if not isinstance(value, keras.initializers.Initializer):
            value = initial(value)
        return self.add_weight(
            name=name,
            shape=weight.shape,
            initializer=value,
            # Whatever the base is kept in: small updates would be lost.
            dtype="float32",
            trainable=weight.trainable,
        )

    def remove_low_rank(self):
        """Takes the weights of the update away again."""
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
        """What the form makes the factors of: weights and constants."""
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
            # What Keras casts only where a policy is mixed.
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

        Of the rank of the update, twice that with starting factors. Where
        the update is more than a product, `(update, None)`.
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
        """Gives the layer other starting factors, and no update."""
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


class BuiltLowRank(LowRankUpdate):
    """A `LowRankUpdate` that is made with its rank, before it is built.

    The layers that `adapters.apply` adapts are built already.
    """

    def keep_settings(self, **settings):
        """Keeps what the constructor was given, for `build` and the config."""
        # Not as an attribute, which Keras would keep track of.
        self.__dict__["low_rank_settings"] = settings

    def get_config(self):
        return {**super().get_config(), **self.low_rank_settings}

    def build(self, input_shape):
        super().build(input_shape)
        settings = dict(self.low_rank_settings)
        rank = settings.pop("rank")
        start = None
        form = LoRAKernel(rank)
        if settings.pop("has_start"):
            # Placeholders: the real ones come with the weights.
            form, view = StartedKernel(rank), kernel_view(self)
            start = (
                np.zeros((view.inputs, rank)),
                np.zeros((rank, view.outputs)),
            )
        if settings.pop("has_magnitude"):
            form = DoRAKernel(form)
        if self.base_bias is not None:
            self.base_bias.trainable = False
        self.add_low_rank(form, start=start, **settings)
