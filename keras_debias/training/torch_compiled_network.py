import keras
import torch
from keras import ops

from keras_debias import _keras_internals
from keras_debias.data.batches import INPUTS
from keras_debias.training.inputs import network_inputs
from keras_debias.training.shared_backward import Call
from keras_debias.training.torch_compiled_call import CompiledCall
from keras_debias.training.torch_compiled_call import seeded
from keras_debias.training.torch_compiled_call import shapes_of
from keras_debias.training.torch_compiled_step import CompiledStep

# Batches of other lengths than the first are padded to one of these.
LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Kept at most; batches of more lengths run uncompiled.
MOST_GRAPHS = 8
# Largest difference that padding may make, relative to the largest output.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 0.1


class CompiledNetwork:
    """The steps and forward passes of a `DebiasedModel`, compiled.

    Only batches with as many rows as the first one are compiled: compiling
    for the last one of an epoch takes a minute and does not pay. Batches of
    tokens may differ in length. They are padded to a few lengths, and the
    outputs are cut, if that changes no output. Each of these lengths has its
    own graphs.

    Args:
        model: the `DebiasedModel`.
        shared: its `SharedBackward`, or `None`, the default.
        differentiated: whether gradients of weights are needed, or only
            those at the outputs of layers. Defaults to `False`.
    """

    # The `backend` of `torch.compile`.
    compiler = "inductor"

    def __init__(self, model, shared=None, differentiated=False):
        self.model = model
        self.shared = shared
        self.differentiated = differentiated
        # Why no graph holds a whole step, once that is known.
        self.step_error = None
        self._first = None
        # By the shapes of a batch, and by those of what is compiled.
        self._plans = {}
        self._graphs = {}

    def at(self, x) -> "CompiledBatch | None":
        """The passes for batches shaped like this one, or `None`."""
        shapes = _shapes(x)
        if self._first is None:
            self._first = x
        if shapes not in self._plans:
            self._plans[shapes] = self._plan(x)
        return self._plans[shapes]

    def is_later(self, x) -> bool:
        """Whether a batch is shaped otherwise than the first one."""
        return x is not None and _shapes(x) != _shapes(self._first)

    def give_up_step(self, batch, reason) -> None:
        """Has steps compiled in part: all of them, if it is the first graph."""
        if batch.graphs is self._graphs[_shapes(self._first)]:
            self.step_error = reason
        else:
            batch.graphs.step_fails = True

    def leave_out(self, x) -> None:
        """Has batches shaped like this one run uncompiled."""
        self._plans[_shapes(x)] = None

    def _plan(self, x):
        if not self.is_later(x):
            return self._batch(x, None)
        length, known = _length(x), _length(self._first)
        if length is None or known is None:
            return None
        if x["padding_mask"].shape[0] != self._first["padding_mask"].shape[0]:
            return None
        longer = [n for n in (*LENGTHS, known) if n >= length]
        width = min(longer, default=length)
        if length <= known and width > known:
            width = known
        if width == length:
            return self._batch(x, None)
        cuts = self._cuts(x, width)
        return self._batch(x, None if cuts is None else width, cuts)

    def _batch(self, x, width, cuts=None):
        key = _shapes(x if width is None else _padded(x, width))
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                return None
            self._graphs[key] = _Graphs(self)
        return CompiledBatch(self._graphs[key], width, bool(cuts))

    def _cuts(self, x, width) -> bool | None:
        """Whether outputs for a longer batch are longer as well.

        `None` if they are others for the tokens that are there.
        """

        def outputs(x):
            return self.model.model(x, training=False)

        with torch.no_grad(), seeded(0), keras.StatelessScope():
            expected = outputs(x)
            try:
                padded = outputs(_padded(x, width))
                found = _cut(padded, width, _length(x))
            except (RuntimeError, ValueError, IndexError):
                # Longer than its positions.
                return None
        if not torch.is_tensor(expected) or expected.shape != found.shape:
            return None
        if expected.ndim == 3:
            # What padding says about itself counts nowhere.
            rows = ops.cast(x["padding_mask"], "bool")
            expected, found = expected[rows], found[rows]
        half = expected.dtype in (torch.float16, torch.bfloat16)
        limit = _HALF_TOLERANCE if half else _TOLERANCE
        distance = float((expected - found).abs().max())
        if not distance <= limit * float(expected.abs().max()):
            return None
        return padded.shape[1:2] == (width,)


class CompiledBatch:
    """The forward passes for batches of one shape.

    Args:
        graphs: a `_Graphs`.
        width: int, the length that tokens are padded to, or `None`.
        cuts: bool. Whether outputs of padding are cut off.
    """

    def __init__(self, graphs, width, cuts):
        self.graphs = graphs
        self.width = width
        self.cuts = cuts

    def step(self) -> CompiledStep | None:
        """All of a step before the optimizer, or `None`.

        A loss of tokens is a mean, which padding would change.
        """
        return None if self.cuts else self.graphs.step()

    def wide(self, x):
        """A batch, its inputs of the network padded."""
        if self.width is None:
            return x
        inputs = network_inputs(x)
        padded = _padded(inputs, self.width)
        return padded if inputs is x else {**x, INPUTS: padded}

    def forward(self, x) -> tuple:
        """Outputs in training, and the calls of trainable layers."""
        y_pred, mask, calls = self.graphs.forward(self.wide(x))
        y_pred = self._with_mask(y_pred, mask, x)
        return y_pred, [*calls, Call(None, None, y_pred)] if calls else []

    def inference(self, x):
        """Outputs outside of training."""
        y_pred, mask = self.graphs.inference(self.wide(x))
        return self._with_mask(y_pred, mask, x)

    def _with_mask(self, y_pred, mask, x):
        y_pred = self._narrow(y_pred, x)
        if mask is not None:
            _keras_internals.set_keras_mask(y_pred, self._narrow(mask, x))
        return y_pred

    def teacher(self, network, function, x):
        """The `run` of `Regularization.teacher_outputs`."""
        found = self.graphs.teacher(network, function, self.wide(x))
        return self._narrow(found, x)

    def _narrow(self, outputs, x):
        if self.width is None:
            return outputs
        return _cut(outputs, self.width, _length(x))


class _Graphs:
    """The compiled forward passes for one shape of inputs."""

    def __init__(self, network):
        self.network = network
        self.step_fails = False
        self._step = None
        self._forward = None
        self._inference = None
        self._teachers = {}
        self._perturbations = []
        self._rules = []

    def step(self):
        network = self.network
        if self.step_fails or network.step_error is not None:
            return None
        if self._step is None:
            self._step = CompiledStep(network.model, network.compiler)
        return self._step

    def forward(self, x) -> tuple:
        network = self.network
        if self._forward is None:
            self._tap(x)
            self._forward = CompiledCall(
                self._watched,
                network.model.model.variables,
                network.differentiated or not self._perturbations,
                network.compiler,
            )
        y_pred, mask, inputs = self._forward(x, self._perturbations)
        calls = [
            Call(*parts)
            for parts in zip(self._rules, inputs, self._perturbations)
        ]
        return y_pred, mask, calls

    def _watched(self, x, perturbations):
        """The forward pass, zeros added to the outputs of some layers.

        Gradients cannot flow back through outputs of a compiled graph.
        Those at the outputs of layers are the gradients of the zeros.
        """
        if not perturbations:
            y_pred, inputs = self._plain(x), []
        else:
            dtype = self.network.model.compute_dtype
            zeros = [*perturbations, ops.zeros((), dtype)]
            with self.network.shared.recording(zeros) as calls:
                y_pred = self._plain(x)
            inputs = [call.inputs for call in calls[:-1]]
        return y_pred, _keras_internals.get_keras_mask(y_pred), inputs

    def _plain(self, x):
        return self.network.model.model(x, training=True)

    def _tap(self, x):
        """Finds the shapes of the outputs of trainable layers."""
        shared = self.network.shared
        if shared is None:
            return
        with (
            torch.no_grad(),
            keras.StatelessScope(),
            shared.recording() as calls,
        ):
            self._plain(x)
        if not shared.fits(calls):
            return
        for call in calls[:-1]:
            zero = torch.zeros_like(call.outputs[:1].flatten()[:1])
            tap = zero.expand(call.outputs.shape).detach()
            self._perturbations.append(tap.requires_grad_())
            self._rules.append(call.rule)

    def inference(self, x) -> tuple:
        network = self.network

        def outputs_of(x):
            y_pred = network.model.model(x, training=False)
            return y_pred, _keras_internals.get_keras_mask(y_pred)

        if self._inference is None:
            self._inference = CompiledCall(
                outputs_of,
                network.model.model.variables,
                False,
                network.compiler,
            )
        return self._inference(x)

    def teacher(self, network, function, x):
        if id(network) not in self._teachers:
            variables = network.variables

            def outputs_of(x):
                return function(x, [(v, v.value) for v in variables])

            self._teachers[id(network)] = CompiledCall(
                outputs_of, variables, False, self.network.compiler
            )
        return self._teachers[id(network)](x)


def on_accelerator(network) -> bool:
    """Whether a network's weights are where Python keeps a device waiting."""
    devices = {v.value.device.type for v in network.variables}
    return bool(devices) and devices <= {"cuda", "xpu"}


def _shapes(x) -> tuple:
    return shapes_of(keras.tree.flatten(x))


def _length(x) -> int | None:
    """The length of a batch of tokens with a padding mask, else `None`."""
    if not isinstance(x, dict) or "padding_mask" not in x:
        return None
    shapes = {tuple(value.shape) for value in x.values()}
    (shape, *others) = shapes
    return None if others or len(shape) != 2 else shape[1]


def _padded(x, width) -> dict:
    values = {name: ops.convert_to_tensor(value) for name, value in x.items()}
    return {
        name: torch.nn.functional.pad(value, (0, width - value.shape[1]))
        for name, value in values.items()
    }


def _cut(outputs, width, length):
    """The outputs without those of padding."""

    def cut(output):
        if output.ndim > 1 and output.shape[1] == width:
            # As many classes as tokens would be cut as well; `_cuts`
            # compares shapes and refuses that.
            return output[:, :length]
        return output

    return keras.tree.map_structure(cut, outputs)
