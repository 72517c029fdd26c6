"""What the layers with a low-rank update share."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.adapted_layer import initial
from keras_debias.layers.magnitude import Magnitude
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


class LowRankUpdate(Magnitude, AdaptedLayer):
    """A low-rank update beside a frozen kernel: `y = x W + s (x A) B`.

    Mixed into `Dense` and `EinsumDense`. With starting factors the update
    is `s ((x A) B - (x A0) B0)`: the layer starts as it was and the kernel
    is never written to, so that disabling is exact to the bit. With a
    magnitude the outputs are scaled as well, see `Magnitude`.
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
            if self.has_magnitude:
                x = ops.add(x, self._lengthening(x, inputs))
        if self.bias is not None:
            x = ops.add(x, self.bias)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def _product(self, inputs):
        """The inputs times the frozen kernel."""
        raise NotImplementedError

    def _build_low_rank(self):
        """The end of `build` of a layer that was made with a rank."""
        *settings, train_bias, has_start, magnitude = self._low_rank_arguments
        start = None
        if has_start:
            # Placeholders: the real ones come with the weights.
            view = kernel_view(self)
            start = (
                np.zeros((view.inputs, settings[0])),
                np.zeros((settings[0], view.outputs)),
            )
        if self.base_bias is not None:
            self.base_bias.trainable = False
        self.add_low_rank(
            *settings,
            start=start,
            train_bias=train_bias,
            has_magnitude=magnitude,
        )

    def add_low_rank(
        self,
        rank,
        alpha=None,
        dropout=0.0,
        rank_stabilized=False,
        start=None,
        train_bias=False,
        has_magnitude=False,
    ):
        """Adds the factors to the built layer and freezes its kernel.

        `start` is a pair of arrays `(A0, B0)` of shapes `(inputs, rank)` and
        `(rank, outputs)`, or `None` for random `A` and zero `B`.
        """
        view = kernel_view(self)
        self.rank = rank
        self.alpha = rank if alpha is None else alpha
        self.dropout = dropout
        self.rank_stabilized = rank_stabilized
        self.train_bias = train_bias
        self.has_start = start is not None
        self.has_magnitude = has_magnitude

        # float32 whatever the base is kept in: small updates would be lost.
        def add(name, shape, value, trainable):
            if value is None:
                # The usual start of LoRA: uniform in +-1/sqrt(inputs).
                value = keras.initializers.VarianceScaling(
                    1 / 3, mode="fan_in", distribution="uniform"
                )
            elif not isinstance(value, keras.initializers.Initializer):
                value = initial(value)
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=value,
                dtype="float32",
                trainable=trainable,
            )

        a0, b0 = (None, keras.initializers.Zeros()) if start is None else start
        a_shape, b_shape = (view.inputs, rank), (rank, view.outputs)
        self.lora_a = add("lora_a", a_shape, a0, True)
        self.lora_b = add("lora_b", b_shape, b0, True)
        if start is not None:
            self.lora_a_start = add("lora_a_start", a_shape, a0, False)
            self.lora_b_start = add("lora_b_start", b_shape, b0, False)
        # A variable and not a Python flag: compiled functions see it change.
        self.lora_gate = add("lora_gate", (), keras.initializers.Ones(), False)
        if dropout:
            self.lora_seed = keras.random.SeedGenerator()
        self.lora_a.trainable = True
        self.lora_b.trainable = True
        if has_magnitude:
            self._add_magnitude()
        _keras_internals.base_variables(self)["kernel"].trainable = False
        if self.base_bias is not None and train_bias:
            self.base_bias.trainable = True

    def remove_low_rank(self):
        """Takes the factors away again."""
        for variable in (*self.low_rank_state.values(), self.lora_gate):
            _keras_internals.remove_weight(self, variable)
        if self.dropout:
            _keras_internals.remove_seed_generator(self, self.lora_seed)
        for name in (
            *("lora_a", "lora_b", "lora_gate", "rank", "alpha", "dropout"),
            *("rank_stabilized", "train_bias", "has_start", "has_magnitude"),
            *("lora_a_start", "lora_b_start", "lora_magnitude", "lora_seed"),
            "_low_rank_arguments",
        ):
            self.__dict__.pop(name, None)

    @property
    def low_rank_state(self) -> dict[str, keras.Variable]:
        """The factors by name."""
        names = ["lora_a", "lora_b"]
        if self.has_start:
            names += ["lora_a_start", "lora_b_start"]
        if self.has_magnitude:
            names.append("lora_magnitude")
        return {name: getattr(self, name) for name in names}

    def adapter_state(self):
        return {**super().adapter_state(), **self.low_rank_state}

    @property
    def scaling(self) -> float:
        """The factor `s` before the update."""
        divisor = self.rank**0.5 if self.rank_stabilized else self.rank
        return self.alpha / divisor

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
            return path(x, *self._factors())
        dropped = keras.random.dropout(x, self.dropout, seed=self.lora_seed)
        update = path(dropped, self.lora_a, self.lora_b)
        if self.has_start:
            start = self.lora_a_start, self.lora_b_start
            update = update - path(x, *start)
        return update

    def _factors(self):
        """`A` and `B`, or factors of `A B - A0 B0`."""
        return (
            self._difference()
            if self.has_start
            else (
                ops.convert_to_tensor(self.lora_a),
                ops.convert_to_tensor(self.lora_b),
            )
        )

    def _difference(self):
        """Factors of `A B - A0 B0` of twice the rank.

        As `(A - A0) B + A0 (B - B0)`: zero to the bit at the start, and no
        difference of two large products later. In float32 whatever the
        layer computes in: the changes are small beside the factors.
        """
        with _keras_internals.without_autocast():
            a_change = ops.subtract(self.lora_a, self.lora_a_start)
            b_change = ops.subtract(self.lora_b, self.lora_b_start)
            return (
                ops.concatenate([a_change, self.lora_a_start], axis=1),
                ops.concatenate([self.lora_b, b_change], axis=0),
            )

    def factors(self) -> tuple:
        """`(P, Q)` with `P Q` the update, inputs x outputs, float64.

        Of the rank of the update, twice that with starting factors. With a
        magnitude, which has no such factors, `(update, None)`.
        """
        if self.has_magnitude:
            matrix = kernel_view(self).to_matrix(self.delta())
            return ops.convert_to_numpy(matrix).astype("float64"), None
        a, b = (
            ops.convert_to_numpy(x).astype("float64") for x in self._factors()
        )
        return a * self.scaling, b

    def factors_of(self, side) -> list:
        """The factors on the side of the inputs, or of the outputs."""
        name = "lora_a" if side == "read" else "lora_b"
        names = [name, f"{name}_start"] if self.has_start else [name]
        return [getattr(self, name) for name in names]

    def restart(self, start) -> None:
        """Gives the layer other starting factors, and no update."""
        for name, value in zip(("lora_a", "lora_b"), start):
            for each in (name, f"{name}_start"):
                getattr(self, each).assign(np.array(value, "float32"))

    def delta(self):
        """The update as a full kernel, float32: `s (A B - A0 B0)`.

        With a magnitude, all that it makes of the kernel.
        """
        matrix = ops.matmul(*self._factors())
        matrix = matrix * self.lora_gate * self.scaling
        if self.has_magnitude:
            matrix = self._lengthened(matrix)
        return kernel_view(self).from_matrix(matrix)

    def check_merge(self):
        """Raises if the update cannot be added to the kernel."""
        if self.quantization_mode is not None:
            raise ValueError(
                "Expected a kernel of floats to merge into. Received: "
                f"'{self.path}', quantised to {self.quantization_mode}: "
                "rounding the sum again would change the outputs. Keep the "
                "adapter beside its base: `adapters.save` the adapter, or "
                "save the `DebiasedModel` around the network."
            )

    def merged_kernel(self):
        """The kernel with the update added, in the kernel's dtype."""
        self.check_merge()
        merged = ops.cast(self.kernel.value, "float32") + self.delta()
        return ops.cast(merged, self.kernel.dtype)

    def reset_updates(self):
        super().reset_updates()
        # Copies: two variables must not share a buffer on jax.
        if self.has_start:
            for name in ("lora_a", "lora_b"):
                start = ops.convert_to_numpy(getattr(self, f"{name}_start"))
                getattr(self, name).assign(np.array(start))
        else:
            self.lora_b.assign(np.zeros(self.lora_b.shape, "float32"))
        if self.has_magnitude:
            self._reset_magnitude()

    def low_rank_config(self) -> dict:
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "rank_stabilized": self.rank_stabilized,
            "has_start": self.has_start,
            "has_magnitude": self.has_magnitude,
            "train_bias": self.train_bias,
        }
