import keras
import torch
from keras import ops

from keras_debias import _keras_internals
from keras_debias.training.shared_backward import Call
from keras_debias.training.torch_compiled_call import CompiledCall


class CompiledNetwork:
    """The forward passes of a `DebiasedModel`'s step, compiled.

    Only batches of the shape of the first one are compiled. Compiling for
    others, such as the last one of an epoch, takes a minute and does not pay.

    Args:
        model: the `DebiasedModel`.
        shared: its `SharedBackward`, or `None`.
        differentiated: whether gradients of weights are needed, or only
            those at the outputs of layers.
    """

    # The `backend` of `torch.compile`.
    compiler = "inductor"

    def __init__(self, model, shared, differentiated):
        self.model = model
        self.shared = shared
        self.differentiated = differentiated
        self._shapes = None
        self._forward = None
        self._teachers = {}
        self._perturbations = []
        self._rules = []

    def takes(self, x) -> bool:
        """Whether a batch has the shapes of the first."""
        shapes = [(tuple(t.shape), t.dtype) for t in keras.tree.flatten(x)]
        if self._shapes is None:
            self._shapes = shapes
        return shapes == self._shapes

    def forward(self, x) -> tuple:
        """Outputs in training, and the calls of trainable layers."""
        if self._forward is None:
            self._tap(x)
            self._forward = CompiledCall(
                self._watched,
                self.model.model.variables,
                self.differentiated or not self._perturbations,
                self.compiler,
            )
        y_pred, mask, inputs = self._forward(x, self._perturbations)
        if mask is not None:
            _keras_internals.set_keras_mask(y_pred, mask)
        calls = [
            Call(*parts)
            for parts in zip(self._rules, inputs, self._perturbations)
        ]
        return y_pred, [*calls, Call(None, None, y_pred)] if calls else []

    def _watched(self, x, perturbations):
        """The forward pass, zeros added to the outputs of some layers.

        Gradients cannot flow back through outputs of a compiled graph.
        Those at the outputs of layers are the gradients of the zeros.
        """
        if not perturbations:
            y_pred, inputs = self._plain(x), []
        else:
            zeros = [*perturbations, ops.zeros((), self.model.compute_dtype)]
            with self.shared.recording(zeros) as calls:
                y_pred = self._plain(x)
            inputs = [call.inputs for call in calls[:-1]]
        return y_pred, _keras_internals.get_keras_mask(y_pred), inputs

    def _plain(self, x):
        return self.model.model(x, training=True)

    def _tap(self, x):
        """Finds the shapes of the outputs of trainable layers."""
        if self.shared is None:
            return
        with (
            torch.no_grad(),
            keras.StatelessScope(),
            self.shared.recording() as calls,
        ):
            self._plain(x)
        if not self.shared.fits(calls):
            return
        for call in calls[:-1]:
            zero = torch.zeros_like(call.outputs[:1].flatten()[:1])
            tap = zero.expand(call.outputs.shape).detach()
            self._perturbations.append(tap.requires_grad_())
            self._rules.append(call.rule)

    def teacher(self, network, function, x):
        """The `run` of `Regularization.teacher_outputs`."""
        if id(network) not in self._teachers:
            variables = network.variables

            def outputs_of(x):
                return function(x, [(v, v.value) for v in variables])

            self._teachers[id(network)] = CompiledCall(
                outputs_of, variables, False, self.compiler
            )
        return self._teachers[id(network)](x)
