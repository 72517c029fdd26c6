import dataclasses
from contextlib import contextmanager
from contextlib import nullcontext

import keras
import torch
from keras.utils import unpack_x_y_sample_weight

from keras_debias import _keras_internals
from keras_debias.losses.row_parts import across
from keras_debias.losses.sample_losses import scores_tokens
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.inputs import network_inputs
from keras_debias.training.inputs import without_inputs
from keras_debias.training.run_callbacks import SyncReplicas
from keras_debias.training.run_callbacks import WaitForFiles
from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.shared_backward import per_sample
from keras_debias.training.torch_compiled_call import seeded
from keras_debias.training.torch_compiled_call import several_backward_passes
from keras_debias.training.torch_compiled_network import CompiledNetwork
from keras_debias.training.torch_compiled_network import on_accelerator
from keras_debias.training.torch_replicas import Replicas
from keras_debias.utils.progress import say


class TorchDebiasedModel(BaseDebiasedModel):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.replicas = Replicas()
        self._compiled = None, None
        self.step_count = self.add_weight(
            name="step_count",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    # Keras would pass whole steps to `torch.compile`, which cannot trace their
    # Python. Here only the forward pass of training is compiled.

    def make_train_function(self, force=False):
        with self._uncompiled():
            super().make_train_function(force)

    def make_test_function(self, force=False):
        with self._uncompiled():
            super().make_test_function(force)

    def make_predict_function(self, force=False):
        with self._uncompiled():
            super().make_predict_function(force)

    @contextmanager
    def _uncompiled(self):
        jit_compile, self.jit_compile = self.jit_compile, False
        try:
            yield
        finally:
            self.jit_compile = jit_compile

    def decide_compiling(self, jit_compile):
        self.decides_compiling = jit_compile == "auto" and not self.run_eagerly
        if self.decides_compiling:
            # Keras' own answer for torch is never.
            self.jit_compile = on_accelerator(self.model)
        self._compiled = None, None

    def _compiled_batch(self, x, variables, shared):
        """The compiled forward passes for a batch, or `None`."""
        if not self.jit_compile:
            return None
        # Rebuilt when adapters, objectives or trainable weights change.
        key = self.train_function, [id(v) for v in variables]
        if self._compiled[0] != key:
            self._compiled = key, self._new_compiled_network(shared)
        network = self._compiled[1]
        return None if network is None else network.at(x)

    def _new_compiled_network(self, shared):
        try:
            self._check_compilable()
        except ValueError as error:
            if not self.decides_compiling:
                raise
            self._give_up_compiling(error)
            return None
        if self.decides_compiling:
            say(
                "The forward pass is compiled for this device: the first "
                "step takes about a minute. `compile(jit_compile=False)` "
                "leaves it as it is."
            )
        objectives = per_sample(self.objectives())
        apart = len(objectives) < len(self.objectives())
        differentiated = apart or self.cached_norm_ratio is not None
        return CompiledNetwork(self, shared, differentiated)

    def _give_up_compiling(self, error):
        """Goes on uncompiled, where that was the model's own choice."""
        self._compiled = self._compiled[0], None
        reason = str(error).split("Received: ")[-1].split(" Leave ")[0]
        say(f"The forward pass is not compiled. Received: {reason}")

    def _check_compilable(self):
        for layer in _keras_internals.flatten_layers(self.model):
            if _keras_internals.is_rematerialized(layer):
                raise ValueError(
                    "Expected no `RematScope` with `jit_compile=True` on "
                    f"torch. Received: '{layer.name}', which is computed "
                    "twice: a compiled graph decides by itself what to keep. "
                    "Leave one of them out."
                )

    @property
    def shard(self):
        return self.replicas.rank, self.replicas.size

    @property
    def writes_files(self):
        # Outside of `fit`, every process writes what its caller asks for.
        return not self.fitting or self.replicas.rank == 0

    def local_callbacks(self, callbacks):
        theirs = keras.callbacks.BackupAndRestore
        if self.replicas.size > 1 and any(
            isinstance(callback, theirs) for callback in callbacks
        ):
            raise ValueError(
                "Expected callbacks that several processes can share. "
                "Received: `keras.callbacks.BackupAndRestore`, whose files "
                "all of them would write and remove. Use "
                "`kd.callbacks.BackupAndRestore`."
            )
        if self.replicas.rank == 0:
            return callbacks
        # It would race with the first process to make the folder.
        checkpoint = keras.callbacks.ModelCheckpoint
        return [each for each in callbacks if type(each) is not checkpoint]

    def own_callbacks(self):
        return [SyncReplicas(self.replicas)] if self.replicas.size > 1 else []

    def last_callbacks(self):
        return [WaitForFiles(self.replicas)] if self.replicas.size > 1 else []

    def _forward(self, x, shared, compiled):
        """The forward pass, with random numbers that a resumed run repeats.

        Dropout without a seed draws from torch's global generator; each step
        gets its own state of it, and the global one is put back.

        Returns:
            The outputs, and the calls that `shared` recorded.
        """
        count = int(self.step_count.value)
        seed = int(self.shuffle_seed.value) * 1_000_003 + count
        # Each process drops other units; a single process has rank 0.
        seed += self.replicas.rank * 7_368_787
        with seeded(seed):
            if compiled is not None:
                y_pred, calls = compiled.forward(network_inputs(x))
            else:
                watch = nullcontext() if shared is None else shared.recording()
                with _keras_internals.fast_dropout(), watch as calls:
                    y_pred = self(x, training=True)
        self.step_count.assign(count + 1)
        return y_pred, calls

    def _passes(self, x, shared, compiled):
        """The teachers' forward passes, and the network's."""
        with torch.no_grad():
            teachers = self.regularization.teacher_outputs(
                x, run=None if compiled is None else compiled.teacher
            )
        return teachers, *self._forward(x, shared, compiled)

    def train_step(self, data):
        if not self.jit_compile:
            return self._train_step(data)
        with several_backward_passes():
            return self._train_step(data)

    def _train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        state = [*self.forward_state(), *self.random_state(), self.step_count]
        before = [v.value.clone() for v in state]

        variables = self.trainable_variables
        shared = self.shared_backward(variables)
        compiled = self._compiled_batch(network_inputs(x), variables, shared)
        try:
            teachers, y_pred, calls = self._passes(x, shared, compiled)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if compiled is None or not self.decides_compiling:
                raise
            self._give_up_compiling(error)
            with torch.no_grad():
                for variable, value in zip(state, before):
                    variable.assign(value)
            teachers, y_pred, calls = self._passes(x, shared, None)
        mask = self.regularization.mask(x, y_pred, sample_weight)
        # From here on, the batch is the union over all processes.
        parts, here, rows = None, None, None
        if self._keeps_logits_apart(y, y_pred):
            parts = self.replicas.parts(x, y_pred.device)
            here = parts.local((x, y, y_pred, sample_weight))
            batch = parts.without_logits(
                y, y_pred, sample_weight, mask, without_inputs(x)
            )
            y, y_pred, sample_weight, mask, x = batch
            teachers, rows = parts.local(teachers), parts.rows
        else:
            y, y_pred, sample_weight, mask, outputs, x = self.replicas.gather(
                y,
                y_pred,
                sample_weight,
                mask,
                list(teachers.values()),
                without_inputs(x),
                inputs=x,
            )
            teachers = dict(zip(teachers, outputs))
        with across(parts):
            loss = _keras_internals.training_loss(
                self, x, y, y_pred, sample_weight
            )
            values = self.step_values(
                loss, mask, teachers, x, y, y_pred, sample_weight
            )
        if parts is not None:
            # All must agree, and NaN may be in the logits of one alone.
            refused = parts.total(1.0 - values.is_finite.float())
            values = dataclasses.replace(values, is_finite=refused == 0)
        self.track_loss(loss, values, y_pred, rows)
        if bool(values.is_finite):
            gradients = _GradientComputer(
                self, values.objectives, variables, shared, calls
            )
            update = self.compute_update(gradients, variables)
            with torch.no_grad():
                self.optimizer.apply(update, variables)
        else:
            with torch.no_grad():
                for variable, value in zip(state, before):
                    variable.assign(value)
        if parts is None:
            return self.compute_metrics(x, y, y_pred, sample_weight)
        parts.add_metrics(
            _keras_internals.compiled_metrics(self, *here[1:3]),
            lambda: self.compute_metrics(*here),
        )
        return self.get_metrics_result()

    def _keeps_logits_apart(self, y, y_pred) -> bool:
        """Whether what is asked of tokens' logits are sums over tokens."""
        loss, *_ = _keras_internals.compiled_loss_arguments(self)
        own = type(self).compute_metrics
        return (
            self.replicas.size > 1
            and self.objective is None
            and scores_tokens(loss, y_pred)
            and all(each.sums_rows for each in self.regularizers)
            and own is keras.Model.compute_metrics
            and all(
                isinstance(metric, keras.metrics.Mean)
                for metric in _keras_internals.compiled_metrics(self, y, y_pred)
            )
        )

    def choose(self, condition, first, second):
        return first() if bool(condition) else second()

    def combine(self, gradients, variables):
        with torch.no_grad():
            return super().combine(gradients, variables)


class _GradientComputer(GradientComputer):
    def __init__(self, model, values, variables, shared, calls):
        fits = shared is not None and shared.fits(calls)
        super().__init__(model, shared if fits else None, calls)
        self.values = values
        self.variables = variables
        self.tensors = [v.value for v in variables]

    def per_objective_gradients(self, count):
        outputs = self.calls[-1].outputs
        cotangents = [
            torch.autograd.grad(value, outputs, retain_graph=True)[0]
            for value in self.values[:count]
        ]
        gradients = torch.autograd.grad(
            outputs,
            [call.outputs for call in self.calls[:-1]],
            cotangents[0],
            retain_graph=len(self.values) > count,
            allow_unused=True,
        )
        with torch.no_grad():
            found = self.shared.contract(
                self.calls,
                gradients,
                self.shared.weights(cotangents),
                self.variables,
                _vjp,
            )
        return self._mean(found)

    def weighted_sums(self, rows):
        found = []
        for number, row in enumerate(rows):
            chosen = [i for i, weight in enumerate(row) if weight is not None]
            gradients = torch.autograd.grad(
                [self.values[i] for i in chosen],
                self.tensors,
                [row[i].to(self.values[i].dtype) for i in chosen],
                retain_graph=number < len(rows) - 1,
                allow_unused=True,
            )
            found.append(
                [
                    torch.zeros_like(t) if g is None else g
                    for g, t in zip(gradients, self.tensors)
                ]
            )
        return self._mean(found)

    def _mean(self, found):
        found = self.model.replicas.mean(dict(enumerate(found)))
        return list(found.values())


def _vjp(function, values, cotangents):
    with torch.enable_grad():
        values = [value.detach().requires_grad_() for value in values]
        return torch.autograd.grad(function(values), values, cotangents)
