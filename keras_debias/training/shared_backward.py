"""One backward pass for several objectives of the same rows.

The gradients of two functions of the per-sample losses are weighted sums of
the same per-sample gradients. At the outputs of the network, and therefore at
the output of every layer below, a row of one gradient is a multiple of the
same row of the other. One backward pass to the layers is enough, and each
trainable layer multiplies the result with its inputs once for each objective.
"""

import abc
import contextlib
import dataclasses

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.training.gradient_source import GradientSource
from keras_debias.training.layer_gradient_rules import LayerGradientRule
from keras_debias.training.layer_gradient_rules import is_known
from keras_debias.training.layer_gradient_rules import layer_gradient_rule
from keras_debias.training.layer_gradient_rules import own_trainable
from keras_debias.training.layer_gradient_rules import replaced

# Layers of Keras in which a row may depend on other rows.
_COUPLING = (
    *("BatchNormalization", "Lambda", "SpectralNormalization", "MixUp"),
    *("CutMix", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"),
    *("TimeDistributed", "Bidirectional", "RNN", "Pipeline"),
)
# Row-wise operations between layers in KerasHub's graphs.
_ROWWISE_OPERATIONS = ("GetItem", "Add", "Multiply", "Cast", "NotEqual")


@dataclasses.dataclass
class Call:
    """A recorded call of a layer.

    Attributes:
        rule: of the layer; `None` for the network as a whole.
        inputs, outputs: tensors.
    """

    rule: LayerGradientRule | None
    inputs: object
    outputs: object


class SharedBackward:
    """Shares one backward pass among the objectives of a step.

    Args:
        layer_gradient_rules: the rule of every layer that trains.
        network: the network.
    """

    def __init__(self, layer_gradient_rules, network):
        self.layer_gradient_rules = layer_gradient_rules
        self.network = network

    @contextlib.contextmanager
    def recording(self, perturbations=None):
        """Records each call of a trainable layer, in call order.

        `perturbations`, for a backend without gradients of tensors within a
        function, are added to the outputs; the last one to those of the
        network.
        """
        calls = []

        def mark(rule, inputs, outputs):
            if perturbations is not None:
                tapped = outputs + perturbations[len(calls)]
                mask = _keras_internals.get_keras_mask(outputs)
                if mask is not None:
                    _keras_internals.set_keras_mask(tapped, mask)
                outputs = tapped
            calls.append(Call(rule, inputs, outputs))
            return outputs

        network_call = self.network.call

        def watched(*args, **kwargs):
            return mark(None, None, network_call(*args, **kwargs))

        with contextlib.ExitStack() as stack:
            for rule in self.layer_gradient_rules:
                stack.enter_context(rule.watch(mark))
            stack.enter_context(replaced(self.network, call=watched))
            yield calls

    def fits(self, calls) -> bool:
        """Whether each row of the recorded calls is a row of the batch."""
        if not calls or calls[-1].rule is not None:
            return False
        if keras.tree.is_nested(calls[-1].outputs):
            return False
        rows = calls[-1].outputs.shape[0]
        return len(calls[-1].outputs.shape) == 2 and all(
            call.inputs.shape[0] == call.outputs.shape[0] == rows
            for call in calls[:-1]
        )

    def weights(self, cotangents):
        """The weight of each row in each objective, relative to the first.

        Args:
            cotangents: for each objective its gradient with respect to the
                outputs of the network, `(batch, outputs)`.

        Returns:
            A float32 tensor of shape `(objectives, batch)`.
        """
        first, *others = [ops.cast(c, "float32") for c in cotangents]
        # Scaled: the gradients of rows that are predicted with certainty are
        # close to underflow.
        largest = ops.max(ops.abs(first), axis=-1, keepdims=True)
        reached = largest > 0
        largest = ops.where(reached, largest, ops.ones_like(largest))
        first = first / largest
        squares = ops.sum(ops.square(first), axis=-1)
        squares = ops.where(reached[:, 0], squares, ops.ones_like(squares))
        rows = [ops.ones_like(squares)]
        for other in others:
            rows.append(ops.sum(other / largest * first, axis=-1) / squares)
        return ops.stack(rows)

    def contract(self, calls, gradients, weights, variables, vjp):
        """The gradients of all trainable weights.

        Args:
            calls: the recorded calls, without that of the network.
            gradients: of the first objective, for the outputs of each call.
            weights: see `weights`.
            variables: list of the weights that train.
            vjp: see `LayerGradientRule.gradients`.

        Returns:
            For each objective a list of one gradient for each variable.
        """
        sums = {}
        for call, gradient in zip(calls, gradients):
            if gradient is None:
                continue
            rule = call.rule
            new = rule.gradients(call.inputs, gradient, weights, vjp)
            for variable, each in zip(rule.variables, new):
                before = sums.get(id(variable))
                if before is not None:
                    each = [ops.add(a, b) for a, b in zip(before, each)]
                sums[id(variable)] = each
        result = []
        for number in range(weights.shape[0]):
            result.append(
                [
                    ops.cast(sums[id(v)][number], v.dtype)
                    if id(v) in sums
                    else ops.zeros(v.shape, v.dtype)
                    for v in variables
                ]
            )
        return result


class GradientComputer(abc.ABC):
    """Computes the gradients of one step, each backend in its own way.

    Args:
        model: the `DebiasedModel`.
        shared: a `SharedBackward`, or `None`. Ignored if it does not fit the
            batch.
        calls: the calls that it recorded.
    """

    def __init__(self, model, shared, calls):
        fits = shared is not None and shared.fits(calls)
        self.model = model
        self.shared = shared if fits else None
        self.calls = calls

    def per_objective(self) -> dict:
        """A dict from each objective to its gradients."""
        objectives = self.model.objectives()
        one = ops.ones((), "float32")
        rows = [
            [one if i == j else None for j in range(len(objectives))]
            for i in range(len(objectives))
        ]
        gradients = []
        if self.shared is not None:
            count = len(per_sample(objectives))
            gradients = self.per_objective_gradients(count)
            rows = rows[count:]
        if rows:
            gradients = [*gradients, *self.weighted_sums(rows)]
        return dict(zip(objectives, gradients))

    @abc.abstractmethod
    def choose(self, condition, first, second):
        """The result of one of two functions without arguments."""

    @abc.abstractmethod
    def per_objective_gradients(self, count) -> list:
        """The gradients of the first `count` objectives, in one pass."""

    @abc.abstractmethod
    def weighted_sums(self, rows) -> list:
        """The gradients of weighted sums of the objectives.

        Args:
            rows: for each sum a list of weights, `None` for zero.
        """


def per_sample(objectives) -> list:
    """The objectives that are functions of per-sample losses."""
    return [o for o in objectives if o is not GradientSource.REGULARIZERS]


def plan(model) -> SharedBackward | str:
    """How a `DebiasedModel` can share a backward pass, or why it cannot."""
    network = model.model
    if len(per_sample(model.objectives())) < 2:
        return "There is one objective."
    if model.objective is not None:
        return f"{type(model.objective).__name__} weighs rows by their batch."
    reason = _loss_reason(model)
    if reason is not None:
        return reason
    layers = [network, *_keras_internals.flatten_layers(network)]
    for layer in layers:
        reason = _layer_reason(layer)
        if reason is not None:
            return reason
    # Asked first: while jax trains, variables have no values to penalize.
    penalized = any(v.regularizer for v in network.trainable_variables)
    if penalized or network.losses:
        return "The network adds losses of its own."
    layer_gradient_rules = []
    for layer in layers:
        if own_trainable(layer):
            rule = layer_gradient_rule(layer)
            if rule is None:
                return f"What trains in '{layer.path}' has no short form."
            layer_gradient_rules.append(rule)
    return SharedBackward(layer_gradient_rules, network)


def _loss_reason(model) -> str | None:
    loss = _keras_internals.compiled_loss_arguments(model)[0]
    if loss is None or keras.tree.is_nested(loss):
        return "There is more than one loss."
    if not isinstance(loss, str):
        name = getattr(loss, "fn", loss)
        name = getattr(name, "__name__", "")
        config = loss.get_config() if hasattr(loss, "get_config") else {}
        if config.get("label_smoothing"):
            return "The loss smooths labels, other objectives do not."
        module = type(loss).__module__ if hasattr(loss, "fn") else ""
        if not module.startswith("keras."):
            return "The loss is not Keras' own."
    else:
        name = loss
    if name not in (
        *("sparse_categorical_crossentropy", "categorical_crossentropy"),
        *("crossentropy",),
    ):
        return f"The loss is {name!r}, not a cross entropy over classes."
    return None


def _layer_reason(layer) -> str | None:
    name = type(layer).__name__
    subclassed = name in ("Functional", "Sequential")
    if not (subclassed or is_known(layer)):
        return f"'{layer.path}' is a layer of your own: it may couple rows."
    # On jax every layer subclasses `JaxLayer` of the backend.
    parents = {
        parent.__name__
        for parent in type(layer).__mro__
        if ".backend." not in parent.__module__
    }
    coupling = sorted(parents & set(_COUPLING))
    if coupling and (name != "BatchNormalization" or layer.trainable):
        return f"'{layer.path}' may couple rows: {name}."
    if "moe" in name.lower():
        return f"'{layer.path}' sends tokens to experts."
    if _keras_internals.is_rematerialized(layer):
        return f"'{layer.path}' is computed twice, to save memory."
    # Before the first call, `losses` does not show it.
    if getattr(layer, "activity_regularizer", None) is not None:
        return f"'{layer.path}' adds a loss of its outputs."
    for operation in getattr(layer, "operations", ()):
        kind = type(operation)
        if not (
            isinstance(operation, keras.Layer)
            or kind.__name__ in _ROWWISE_OPERATIONS
        ):
            return f"'{layer.path}' holds the operation {kind.__name__}."
    return None
