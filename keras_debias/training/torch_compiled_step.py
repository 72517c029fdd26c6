import keras
import torch

from keras_debias import _keras_internals
from keras_debias.training.step import Step
from keras_debias.training.step_values import StepValues
from keras_debias.training.torch_compiled_call import CompiledCall
from keras_debias.training.torch_compiled_call import shapes_of
from keras_debias.training.torch_step import TorchGradientComputer
from keras_debias.training.torch_step import TorchStep

# Of more logits, two gradients at once would take too much memory.
MOST_LOGITS = 2**25


class CompiledStep:
    """All of a training step before the optimizer, as one graph.

    Teachers, the forward pass, losses, regularizers, gradients and
    projections. The optimizer of Keras updates all weights in few calls as it
    is.

    Args:
        model: the `DebiasedModel`.
        compiler: name of a backend of `torch.compile`.
    """

    def __init__(self, model, compiler):
        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self.model = model
        self.compiler = compiler
        self.variables = [
            *model.variables,
            *model.metrics_variables,
            # The count of updates, and the scale of a float16 loss.
            *(v for v in optimizer.variables if not v.shape),
        ]
        # By the shapes of labels and weights, and by what a step computes.
        self._graphs = {}

    def __call__(self, x, y, sample_weight) -> tuple:
        """Runs a step up to its update.

        Returns:
            The `StepValues`, the list of gradients for the optimizer, pairs
            of variables and the values they are to get, and the outputs of
            the network.
        """
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        # With a cached ratio of norms, some steps compute less.
        exact = not self.model.caches_norm_ratio or bool(
            self.model.norm_ratio_is_due()
        )
        key = exact, shapes_of(keras.tree.flatten(data))
        if key not in self._graphs:
            self._graphs[key] = StepGraph(self, exact)
        return self._graphs[key](data)


class StepGraph:
    """The graph of steps with data of some shapes.

    Args:
        step: the `CompiledStep`.
        exact: bool. Whether it computes the ratio of norms, where it is
            cached.
    """

    def __init__(self, step, exact):
        self.model = step.model
        self.exact = exact
        self.call = CompiledCall(
            self._run,
            step.variables,
            differentiated=False,
            compiler=step.compiler,
            takes_gradients=True,
        )
        self._outputs = None
        self._sizes = None

    def __call__(self, data):
        found, written = self.call.run(data)
        parts = []
        for size in self._sizes:
            parts.append(found[:size])
            found = found[size:]
        (loss, is_finite), terms, outputs, mask, update = parts
        y_pred = outputs[0]
        if self._outputs is not None:
            y_pred = keras.tree.pack_sequence_as(self._outputs, outputs)
        if mask:
            _keras_internals.set_keras_mask(y_pred, mask[0])
        values = StepValues(loss, None, terms, is_finite)
        return values, update, written, y_pred

    def _run(self, data) -> list:
        """What the graph holds: a flat list of tensors."""
        with torch.enable_grad():
            step = _RecordedStep(self.model, data, self.exact)
            values = step.forward(step.teacher_outputs())
            update = step.compute_update(values)
        mask = _keras_internals.get_keras_mask(step.y_pred)
        parts = (
            [values.loss, values.is_finite],
            values.terms,
            keras.tree.flatten(step.y_pred),
            [] if mask is None else [mask],
            update,
        )
        if not torch.is_tensor(step.y_pred):
            self._outputs = keras.tree.map_structure(lambda _: 0, step.y_pred)
        self._sizes = [len(part) for part in parts]
        return [tensor.detach() for part in parts for tensor in part]


class _RecordedStep(TorchStep):
    """A step that runs once, while its operations are recorded."""

    def __init__(self, model, data, exact):
        Step.__init__(self, model, data)
        self.replicas = model.replicas
        self.parts = None
        self.exact = exact

    def teacher_outputs(self):
        def run(network, function, x):
            return function(x, [(v, v.value) for v in network.variables])

        with torch.no_grad():
            return self.model.regularization.teacher_outputs(self.x, run=run)

    def forward(self, teachers):
        with self.recording() as self.calls:
            self.y_pred = self.model(self.x, training=True)
        loss = _keras_internals.training_loss(
            self.model, self.x, self.y, self.y_pred, self.sample_weight
        )
        return self.values(loss, self.y_pred, teachers)

    def is_true(self, condition):
        return self.exact

    def gradients(self, values):
        return _RecordedGradients(self, values.objectives)


class _RecordedGradients(TorchGradientComputer):
    """Sends the gradients of several objectives back together.

    Losses of tokens have no shared pass. Each operation then runs once on
    all of their gradients, in place of once for each.
    """

    def __init__(self, step, values):
        super().__init__(step, values)
        y_pred = step.y_pred
        # It is known of these networks that nothing but outputs is penalized.
        small = torch.is_tensor(y_pred) and y_pred.numel() <= MOST_LOGITS
        self.outputs = y_pred if small and step.shared is not None else None

    def weighted_sums(self, rows):
        if self.outputs is None or len(rows) == 1:
            return super().weighted_sums(rows)
        cotangents = self.sums(rows, [self.outputs], retain_graph=True)
        gradients = torch.autograd.grad(
            self.outputs,
            self.tensors,
            torch.stack([cotangent for (cotangent,) in cotangents]),
            is_grads_batched=True,
            allow_unused=True,
        )
        return [
            [
                torch.zeros_like(t) if g is None else g[number]
                for g, t in zip(gradients, self.tensors)
            ]
            for number in range(len(rows))
        ]
