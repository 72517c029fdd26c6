"""What a network computes, on torch, as one compiled graph.

Keras runs Python for every layer and every weight, and a GPU waits for it.
Here it runs once, while the operations of torch are recorded. The compiler
behind `torch.compile` gets the recorded graph, without the Python of Keras.
`torch.compile` itself would trace the graph once more, and look at each weight
at each call.
"""

import contextlib

import keras
import torch
import torch._functorch.config as functorch_config
from keras import ops
from torch.fx.experimental.proxy_tensor import make_fx

from keras_debias import _keras_internals
from keras_debias.training.torch_fused_matmuls import fuse_matmuls

# Largest difference of graph and function, relative to the largest value.
_TOLERANCE = 1e-4
_HALF_TOLERANCE = 0.1
# Smaller values are compared relative to this part of the largest of all.
_NOISE = 1e-4


class CompiledCall:
    """A function of tensors and of a network's weights, compiled.

    It is traced at the first call, for inputs of those shapes. Weights that
    the function writes are written. Masks of dropout with a seed are drawn
    before each call, as Keras draws them, and handed to the graph.

    Args:
        function: function of nested tensors to nested tensors. Its other
            effects happen once, when it is traced.
        variables: list of the variables that it reads.
        differentiated: whether gradients of variables are needed. Those of
            arguments are always available. Defaults to `True`.
        compiler: name of a backend of `torch.compile`. Defaults to
            `"inductor"`.
        takes_gradients: whether the function takes gradients of its own, of
            weights that train. None flow through the graph then. Defaults to
            `False`.

    Raises:
        ValueError: At the first call, if the function cannot be traced or
            compiled, or the graph does not give its outputs and gradients.
    """

    def __init__(
        self,
        function,
        variables,
        differentiated=True,
        compiler="inductor",
        takes_gradients=False,
    ):
        self.function = function
        self.variables = list({id(v): v for v in variables}.values())
        self.differentiated = differentiated
        self.compiler = compiler
        self.takes_gradients = takes_gradients
        self._graph = None
        self._structure = None
        # Of the outputs of the graph: which are not `None`, of how many, and
        # the variables that the others are for.
        self._places = None
        self._written = []
        # Draw the masks of dropout with a seed, in their order.
        self._draws = []

    def __call__(self, *arguments):
        outputs, written = self.run(*arguments)
        for variable, value in written:
            variable.assign(value)
        return outputs

    def run(self, *arguments) -> tuple:
        """Outputs, and pairs of variables and the values they are to get.

        A function that takes gradients returns a flat list, for speed.
        """
        values = _keras_internals.current_values(self.variables)
        if not (self.differentiated or self.takes_gradients):
            values = [value.detach() for value in values]
        leaves = [_input(leaf) for leaf in keras.tree.flatten(arguments)]
        if self._graph is None:
            self._graph = self._compile(arguments, values, leaves)
        masks = [draw() for draw in self._draws]
        flows = torch.is_grad_enabled() and not self.takes_gradients
        with torch.set_grad_enabled(flows):
            found = self._graph(*values, *leaves, *masks)
        places, count = self._places
        outputs = [None] * count
        for place, tensor in zip(places, found):
            outputs[place] = tensor
        if not self.takes_gradients:
            outputs = keras.tree.pack_sequence_as(self._structure, outputs)
        return outputs, list(zip(self._written, found[len(places) :]))

    def _compile(self, arguments, values, leaves):
        # Takes seconds.
        from torch._dynamo import lookup_backend

        start, end = len(values), len(values) + len(leaves)

        def flat(*tensors):
            packed = keras.tree.pack_sequence_as(arguments, tensors[start:end])
            mapping = list(zip(self.variables, tensors))
            remaining = iter(tensors[end:])
            with (
                keras.StatelessScope(mapping, collect_losses=True) as scope,
                _keras_internals.seeded_dropout(lambda _: next(remaining)),
            ):
                before = [scope.get_current_value(v) for v in self.variables]
                outputs = self.function(*packed)
                after = [scope.get_current_value(v) for v in self.variables]
            if scope.losses:
                raise ValueError(
                    "Expected a network without losses of activations, for "
                    "`jit_compile=True` on torch. Received: "
                    f"{len(scope.losses)} of them. Leave `jit_compile` out."
                )
            known = {id(v) for v in self.variables}
            if not known.issuperset(scope.state_mapping):
                raise ValueError(
                    "Expected a step that writes variables of the model, for "
                    "`jit_compile=True` on torch. Received: one that writes "
                    "others. Leave `jit_compile` out."
                )
            self._structure = keras.tree.map_structure(lambda _: 0, outputs)
            outputs = keras.tree.flatten(outputs)
            places = [i for i, o in enumerate(outputs) if o is not None]
            self._places = places, len(outputs)
            changes = zip(self.variables, before, after)
            written = [(v, new) for v, old, new in changes if new is not old]
            self._written = [v for v, _ in written]
            return [*(outputs[i] for i in places), *(new for _, new in written)]

        masks = self._record_draws(arguments, values, leaves)
        tensors = [*values, *leaves, *masks]
        try:
            with seeded(0):
                # Gradients are recorded below what dispatches to autograd.
                trace = make_fx(flat, pre_dispatch=not self.takes_gradients)
                graph = trace(*tensors)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                "Expected a network that torch can trace, for "
                "`jit_compile=True`. Received: one that asks for the value "
                "of a tensor, as Python of its own or a seed of its own does "
                f"({error}). Leave `jit_compile` out."
            ) from error
        graph.graph.eliminate_dead_code()
        if not self.takes_gradients:
            fuse_matmuls(graph.graph, len(values))
        graph.recompile()
        count = len(self._places[0])
        _check(flat, graph, tensors, count, not self.takes_gradients)
        enabled = torch.is_grad_enabled() and not self.takes_gradients
        try:
            with torch.set_grad_enabled(enabled):
                found = lookup_backend(self.compiler)(graph, tensors)
            # Machine code of both directions is written at the first call.
            _outputs_and_gradients(found, tensors, count, enabled)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, OSError) as error:
            raise ValueError(
                "Expected a graph that torch can compile here, for "
                f"`jit_compile=True`. Received: {_first_line(error)} Leave "
                "`jit_compile` out."
            ) from error
        return found

    def _record_draws(self, arguments, values, leaves):
        """Finds where seeded dropout draws; returns masks to trace with."""
        masks = []

        def recorded(draw):
            self._draws.append(draw)
            masks.append(draw())
            return masks[-1]

        packed = keras.tree.pack_sequence_as(arguments, leaves)
        with (
            torch.set_grad_enabled(self.takes_gradients),
            seeded(0),
            keras.StatelessScope(list(zip(self.variables, values))),
            _keras_internals.seeded_dropout(recorded),
        ):
            self.function(*packed)
        return masks


def several_backward_passes():
    """A context in which a graph may be differentiated more than once.

    Otherwise the first backward pass frees the buffers that it has read.
    """
    return functorch_config.patch(donated_buffer=False)


def shapes_of(arrays) -> tuple:
    """Shapes and dtypes, the same for an array of NumPy as for a tensor."""
    return tuple(
        (tuple(a.shape), keras.backend.standardize_dtype(a.dtype))
        for a in arrays
    )


@contextlib.contextmanager
def seeded(seed):
    """Random numbers of torch that are the same each time."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:
            # The other one notes a stack, for devices that may come.
            torch.default_generator.manual_seed(seed)
        yield


def _input(leaf):
    """An input of a graph, whose machine code is written for its strides."""
    tensor = ops.convert_to_tensor(leaf)
    # Those with gradients are the same tensors each time.
    return tensor if tensor.requires_grad else tensor.contiguous()


def _first_line(error):
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."


def _check(function, graph, tensors, count, differentiated):
    """Raises if a graph and the function that was traced differ.

    A graph loses custom gradients of a layer, and random numbers from a
    layer's own generator.
    """
    expected = _outputs_and_gradients(function, tensors, count)
    found = _outputs_and_gradients(graph, tensors, count, differentiated)
    # Gradients of float32 weights are as rough as what they went through.
    dtypes = {tensor.dtype for tensor in (*tensors, *expected)}
    is_half = bool(dtypes & {torch.float16, torch.bfloat16})
    tolerance = _HALF_TOLERANCE if is_half else _TOLERANCE
    pairs = [
        (a, b)
        for a, b in zip(expected, found, strict=True)
        if a.numel() and torch.isfinite(a).all()
    ]
    # Gradients that should be zero, as of the bias of keys, are noise.
    noise = _NOISE * max((float(a.abs().max()) for a, _ in pairs), default=0)
    for a, b in pairs:
        largest = max(float(a.abs().max()), noise)
        distance = float((a - b).abs().max())
        if not distance <= tolerance * largest:
            raise ValueError(
                "Expected a network whose operations say all that it does, "
                "for `jit_compile=True`. Received: one whose graph is "
                f"{distance:.2g} off where {largest:.2g} is the largest "
                "value: a layer defines a gradient of its own, or draws from "
                "a generator of its own. Leave `jit_compile` out."
            )


def _outputs_and_gradients(function, tensors, count, enabled=True):
    """The first outputs of a function, and gradients through them."""
    with seeded(0), torch.set_grad_enabled(enabled):
        outputs = [o for o in function(*tensors)[:count] if _is_real(o)]
        asked = [x for x in tensors if x.requires_grad]
        reached = [o for o in outputs if o.requires_grad]
        gradients = []
        if asked and reached:
            found = torch.autograd.grad(
                reached,
                asked,
                [torch.randn_like(o) for o in reached],
                allow_unused=True,
            )
            gradients = [
                torch.zeros_like(x) if g is None else g
                for g, x in zip(found, asked)
            ]
        return [value.detach() for value in (*outputs, *gradients)]


def _is_real(output):
    return torch.is_floating_point(output)
