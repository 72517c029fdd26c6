"""Gradients of a layer's own weights from its inputs and output gradients.

Each rule belongs to one layer with trainable weights. `watch` inserts a call
of `mark` after the last use of these weights. The inputs and outputs that
`mark` gets, and the gradient of the outputs, give the gradients of the weights
for any weighting of the rows.
"""

import abc
import contextlib
import functools
import math
import re

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.added_vector import AddedVector
from keras_debias.layers.bias_update import BiasUpdate
from keras_debias.layers.bias_update import bias_shape
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.low_rank import LowRankUpdate
from keras_debias.layers.refined_block import RefinedBlock
from keras_debias.layers.transformed_layer import TransformedLayer
from keras_debias.linalg import kernel_view


def layer_gradient_rule(layer: keras.Layer):
    """The rule of a layer with own trainable weights, or `None`."""
    for kind in (
        *(DenseContraction, TransformContraction, RefineContraction),
        *(VectorContraction, NormContraction),
    ):
        if kind.fits(layer):
            return kind(layer)
    return None


def own_trainable(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of the layer itself that train."""
    own = _keras_internals.own_trainable_variables(layer)
    return [variable for variable in own if variable.trainable]


@contextlib.contextmanager
def replaced(layer, **functions):
    """A context in which one layer has other methods.

    In `__dict__`: neither Keras' tracking nor torch's modules take notice.
    """
    before = {k: layer.__dict__[k] for k in functions if k in layer.__dict__}
    layer.__dict__.update(functions)
    try:
        yield
    finally:
        for name in functions:
            del layer.__dict__[name]
        layer.__dict__.update(before)


class LayerGradientRule(abc.ABC):
    """Base class: one layer.

    Attributes:
        layer: the layer.
        variables: list of its own weights that train.
    """

    def __init__(self, layer):
        self.layer = layer
        self.variables = own_trainable(layer)

    @classmethod
    @abc.abstractmethod
    def fits(cls, layer) -> bool:
        """Whether the rule covers all weights that the layer trains."""

    @abc.abstractmethod
    def watch(self, mark):
        """A context in which the layer calls `mark(self, inputs, outputs)`.

        `mark` returns the outputs, or a tensor in place of them.
        """

    @abc.abstractmethod
    def gradients(self, inputs, gradient, weights, vjp) -> list:
        """The gradients of the own weights.

        Args:
            inputs, gradient: the inputs that `mark` got, and the gradient of
                its outputs.
            weights: float32 tensor of shape `(objectives, batch)`.
            vjp: function of `(function, values, cotangents)`: the
                gradients of a function of a list of tensors.

        Returns:
            For each variable a list of one gradient for each objective.
        """


class DenseContraction(LayerGradientRule):
    """`Dense` and `EinsumDense`: kernel, bias, low-rank factors, biases."""

    @classmethod
    def fits(cls, layer):
        if original_class(layer) is None:
            return False
        try:
            view = kernel_view(layer)
        except ValueError:
            return False
        low_rank = isinstance(layer, LowRankUpdate)
        if not view.rows_come_first or not view.keeps_order:
            return False
        if low_rank and (layer.dropout or not layer.form.is_product):
            return False
        if not low_rank and layer.quantization_mode is not None:
            return False
        known = _bias_variables(layer)
        kernel = _keras_internals.base_variables(layer)["kernel"]
        if low_rank:
            known += layer.low_rank_state.values()
        bias = _keras_internals.base_variables(layer).get("bias")
        if bias is not None:
            shape = [size for size in bias.shape if size != 1]
            expected = [size for size in bias_shape(layer) if size != 1]
            if shape != expected or len(bias.shape) > len(shape) + 1:
                return False
            known.append(bias)
        known = {id(v) for v in (*known, kernel)}
        return all(id(v) in known for v in own_trainable(layer))

    @contextlib.contextmanager
    def watch(self, mark):
        layer, seen = self.layer, []
        name = "_adapt" if isinstance(layer, LowRankUpdate) else "call"
        call, activation = getattr(layer, name), layer.activation

        def watched_call(first, *args, **kwargs):
            # `_adapt` gets the product with the kernel first.
            seen.append(args[0] if name == "_adapt" else first)
            return call(first, *args, **kwargs)

        def watched_activation(outputs):
            outputs = mark(self, seen.pop(), outputs)
            return outputs if activation is None else activation(outputs)

        with replaced(
            layer, **{name: watched_call, "activation": watched_activation}
        ):
            yield

    def gradients(self, inputs, gradient, weights, vjp):
        layer, view = self.layer, kernel_view(self.layer)
        x, g = view.input_rows(inputs), view.output_rows(gradient)
        found = {}
        base = _keras_internals.base_variables(layer)
        own = {id(v) for v in self.variables}
        if id(base["kernel"]) in own:
            found[id(base["kernel"])] = [
                view.from_matrix(_product(x, g * _rows(w, g)))
                for w in ops.unstack(weights, axis=0)
            ]
        if isinstance(layer, LowRankUpdate):
            found.update(self._low_rank(x, g, weights, vjp))
        bias, updates = base.get("bias"), _bias_variables(layer)
        if (bias is not None and id(bias) in own) or updates:
            sums = ops.cast(ops.sum(g, axis=1), "float32")
            sums = ops.unstack(ops.matmul(weights, sums), axis=0)
            if bias is not None and id(bias) in own:
                found[id(bias)] = [ops.reshape(s, bias.shape) for s in sums]
            if updates:
                found.update(self._updates(sums, vjp))
        return [found[id(v)] for v in self.variables]

    def _low_rank(self, x, g, weights, vjp) -> dict:
        """`s x' (w g B')` and `(w s x A)' g`, all objectives at once."""
        layer, count = self.layer, weights.shape[0]
        a, b = layer.form.factors(layer.low_rank_values)
        a, b = ops.cast(a, g.dtype), ops.cast(b, g.dtype)
        scale = ops.cast(layer.lora_gate.value * layer.scaling, g.dtype)
        weights = ops.unstack(weights, axis=0)
        # The factors that are weights themselves, and what is made of others.
        direct = {
            s: layer.factors_of(s)[:1] if layer.form.has_direct_factors else []
            for s in ("read", "write")
        }
        found, made = {}, {}

        def keep(side, gradients):
            for variable in direct[side]:
                found[id(variable)] = gradients
            if not direct[side]:
                made[side] = gradients

        if all(v.trainable for v in direct["read"]):
            up = ops.matmul(g, ops.transpose(b)) * scale
            up = ops.concatenate([up * _rows(w, g) for w in weights], axis=-1)
            keep("read", ops.split(_product(x, up), count, axis=1))
        if all(v.trainable for v in direct["write"]):
            down = ops.matmul(x, a) * scale
            down = [down * _rows(w, g) for w in weights]
            product = _product(ops.concatenate(down, axis=-1), g)
            keep("write", ops.split(product, count, axis=0))
        if made:
            found.update(self._through_factors(made, count, vjp))
        return found

    def _through_factors(self, made, count, vjp) -> dict:
        """Gradients of weights from the gradients of their factors."""
        layer = self.layer
        values = {
            name: v.value if isinstance(v, keras.Variable) else v
            for name, v in layer.low_rank_values.items()
        }
        trained = [n for n, v in layer.low_rank_state.items() if v.trainable]

        def factors(given, cotangents):
            now = layer.form.factors({**values, **dict(zip(trained, given))})
            pairs = zip(("read", "write"), now)
            return sum(
                ops.sum(factor * ops.cast(cotangents[side], "float32"))
                for side, factor in pairs
                if side in cotangents
            )

        each = [
            vjp(
                functools.partial(
                    factors, cotangents={s: g[k] for s, g in made.items()}
                ),
                [values[name] for name in trained],
                ops.ones((), "float32"),
            )
            for k in range(count)
        ]
        state = layer.low_rank_state
        return {
            id(state[name]): list(gradients)
            for name, gradients in zip(trained, zip(*each))
        }

    def _updates(self, sums, vjp):
        """Gradients of bias updates from the gradient of the whole bias."""
        layer, found = self.layer, {}
        shape = bias_shape(layer)
        base = layer.base_bias
        for form, slot, names in layer.bias_updates.values():
            variables = {n: getattr(layer, own) for n, own in names.items()}
            trained = [n for n, v in variables.items() if v.trainable]
            values = {n: v.value for n, v in variables.items()}
            start = base
            if base is not None:
                start = slot.extract(ops.cast(base.value, "float32"))
            delta = functools.partial(
                _delta, form, slot, start, values, trained, layer.bias_gate
            )
            each = [
                vjp(
                    delta,
                    [values[name] for name in trained],
                    ops.reshape(total, shape),
                )
                for total in sums
            ]
            for name, gradients in zip(trained, zip(*each)):
                found[id(variables[name])] = list(gradients)
        return found


class TransformContraction(LayerGradientRule):
    """A function around a layer, such as the scales of `IA3`."""

    @classmethod
    def fits(cls, layer):
        if not isinstance(layer, TransformedLayer):
            return False
        known = {id(v) for v in layer.adapter_state().values()}
        return kernel_view(layer).rows_come_first and all(
            id(v) in known for v in own_trainable(layer)
        )

    @contextlib.contextmanager
    def watch(self, mark):
        transformed = self.layer.transformed

        def watched(x):
            return mark(self, x, transformed(x))

        with replaced(self.layer, transformed=watched):
            yield

    def gradients(self, inputs, gradient, weights, vjp):
        layer, state = self.layer, self.layer.adapter_state()
        names = [name for name, v in state.items() if v.trainable]
        values, gate = layer.transform_values, layer.transform_gate.value

        def outputs(given):
            now = {**values, **dict(zip(names, given))}
            return layer.transform.apply(now, inputs, gate)

        each = [
            vjp(
                outputs,
                [values[name] for name in names],
                gradient * _rows(w, gradient),
            )
            for w in ops.unstack(weights, axis=0)
        ]
        found = {
            # Tensorflow loses the shape of a product over several axes.
            id(state[name]): [ops.reshape(g, state[name].shape) for g in of_one]
            for name, of_one in zip(names, zip(*each))
        }
        return [found[id(v)] for v in self.variables]


class RefineContraction(LayerGradientRule):
    """The vector that is added to the input of a block."""

    @classmethod
    def fits(cls, layer):
        own = own_trainable(layer)
        return isinstance(layer, RefinedBlock) and own == [layer.refine]

    @contextlib.contextmanager
    def watch(self, mark):
        refined = self.layer.refined

        def watched(hidden_states):
            return mark(self, hidden_states, refined(hidden_states))

        with replaced(self.layer, refined=watched):
            yield

    def gradients(self, inputs, gradient, weights, vjp):
        width = gradient.shape[-1]
        g = ops.reshape(gradient, (ops.shape(gradient)[0], -1, width))
        sums = ops.matmul(weights, ops.cast(ops.sum(g, axis=1), "float32"))
        return [ops.unstack(sums, axis=0)]


class VectorContraction(LayerGradientRule):
    """The vector of a layer that does nothing but add it."""

    @classmethod
    def fits(cls, layer):
        # Its last axes only: the first one is that of the rows.
        return isinstance(layer, AddedVector) and is_known(layer)

    @contextlib.contextmanager
    def watch(self, mark):
        call = self.layer.call

        def watched(inputs):
            return mark(self, inputs, call(inputs))

        with replaced(self.layer, call=watched):
            yield

    def gradients(self, inputs, gradient, weights, vjp):
        shape = tuple(self.layer.vector.shape)
        g = ops.reshape(
            gradient, (ops.shape(gradient)[0], -1, math.prod(shape))
        )
        sums = ops.matmul(weights, ops.cast(ops.sum(g, axis=1), "float32"))
        sums = sums * self.layer.bias_gate.value
        return [[ops.reshape(s, shape) for s in ops.unstack(sums, axis=0)]]


class NormContraction(LayerGradientRule):
    """Scales and offsets of normalizations within a row."""

    @classmethod
    def fits(cls, layer):
        within = re.search("(Layer|RMS|Group)Norm", type(layer).__name__)
        return within is not None and is_known(layer)

    @contextlib.contextmanager
    def watch(self, mark):
        call = self.layer.call

        def watched(inputs, *args, **kwargs):
            return mark(self, inputs, call(inputs, *args, **kwargs))

        with replaced(self.layer, call=watched):
            yield

    def gradients(self, inputs, gradient, weights, vjp):
        layer = self.layer
        others = layer.non_trainable_variables

        def outputs(values):
            state = [v.value for v in others]
            return layer.stateless_call(values, state, inputs)[0]

        found = [
            vjp(
                outputs,
                [v.value for v in layer.trainable_variables],
                gradient * _rows(w, gradient),
            )
            for w in ops.unstack(weights, axis=0)
        ]
        by_variable = dict(zip(map(id, layer.trainable_variables), zip(*found)))
        return [list(by_variable[id(v)]) for v in self.variables]


def is_known(layer) -> bool:
    """Whether a layer is from Keras, KerasHub or this library."""
    module = type(layer).__module__.split(".")[0]
    return module in ("keras", "keras_hub", "keras_debias")


def _delta(form, slot, start, values, trained, gate, given):
    """One update of a bias as a function of the weights that train."""
    values = {**values, **dict(zip(trained, given))}
    return slot.place(form.delta(values, start)) * gate


def _bias_variables(layer) -> list[keras.Variable]:
    if not isinstance(layer, BiasUpdate):
        return []
    return [
        variable
        for role in layer.bias_updates
        for variable in layer.bias_state(role).values()
    ]


def _rows(weights, like):
    """Weights of rows `(batch,)` against a tensor `(batch, ...)`."""
    shape = (-1, *(1 for _ in like.shape[1:]))
    return ops.reshape(ops.cast(weights, like.dtype), shape)


def _product(x, g):
    """`x' g` over batch and positions."""
    x = ops.reshape(x, (-1, x.shape[-1]))
    return ops.matmul(ops.transpose(x), ops.reshape(g, (-1, g.shape[-1])))
