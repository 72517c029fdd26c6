from contextlib import contextmanager
from contextlib import nullcontext

import keras
import torch

from keras_debias import _keras_internals
from keras_debias.losses.sample_losses import scores_tokens
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.inputs import network_inputs
from keras_debias.training.run_callbacks import SyncReplicas
from keras_debias.training.run_callbacks import WaitForFiles
from keras_debias.training.shared_backward import per_sample
from keras_debias.training.torch_compiled_call import several_backward_passes
from keras_debias.training.torch_compiled_network import MOST_GRAPHS
from keras_debias.training.torch_compiled_network import CompiledNetwork
from keras_debias.training.torch_compiled_network import on_accelerator
from keras_debias.training.torch_replicas import Replicas
from keras_debias.training.torch_step import TorchStep
from keras_debias.utils.progress import say


class TorchDebiasedModel(BaseDebiasedModel):
    """On torch: several processes, compiled forward passes."""

    # Whether `evaluate` or `predict` runs a step.
    _infers = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.replicas = Replicas()
        self._forget_graphs()
        self.__dict__["_step_state"] = None, []
        self.step_count = self.add_weight(
            name="step_count",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    # Keras would pass whole steps to `torch.compile`, which cannot trace their
    # Python. Here only the forward passes are compiled.

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
        self._forget_graphs()

    def _forget_graphs(self):
        self._compiled = None, None
        # By the number of rows, for one set of weights; `None` is given up.
        self._inference = None, {}
        self._latest_rows = None
        self._said_in_part = False

    def _step_key(self, variables):
        """Differs when adapters, objectives or trainable weights have."""
        return self.train_function, [id(v) for v in variables]

    def step_state(self, variables) -> list:
        """What the forward pass of a step changes."""
        key = self._step_key(variables)
        # Past Keras' tracking, which would look at each of the layers.
        if self.__dict__["_step_state"][0] != key:
            state = [
                *self.forward_state(),
                *self.random_state(),
                self.step_count,
            ]
            self.__dict__["_step_state"] = key, state
        return self.__dict__["_step_state"][1]

    def compiled_batch(self, x, variables, shared):
        """The compiled forward passes for a batch, or `None`."""
        if not self.jit_compile:
            return None
        key = self._step_key(variables)
        if self._compiled[0] != key:
            self._compiled = key, self._new_compiled_network(shared)
        network = self._compiled[1]
        return None if network is None else network.at(x)

    def compiled_step(self, batch):
        """All of a step but the optimizer's update as a graph, or `None`.

        Args:
            batch: the `CompiledBatch` of the step, or `None`.
        """
        if batch is None or self.replicas.size > 1:
            return None
        return batch.step()

    def give_up_compiled_step(self, error, batch) -> None:
        """Goes on with a compiled forward pass, if that can be compiled."""
        self._compiled[1].give_up_step(batch, _reason(error))

    def say_compiled_in_part(self) -> None:
        """Says once why a step is compiled in part, if it is."""
        reason = self._compiled[1].step_error
        if reason is not None and not self._said_in_part:
            self._said_in_part = True
            say(
                "Of the training step, only the forward pass is compiled. "
                f"Received: {reason}"
            )

    def _new_compiled_network(self, shared):
        try:
            self._check_compilable()
        except ValueError as error:
            self.give_up_compiling(error)
            return None
        if self.decides_compiling:
            say(
                "The training step is compiled for this device: the first "
                "one takes about a minute. `compile(jit_compile=False)` "
                "leaves it as it is."
            )
        objectives = per_sample(self.objectives())
        apart = len(objectives) < len(self.objectives())
        differentiated = apart or self.cached_norm_ratio is not None
        return CompiledNetwork(self, shared, differentiated)

    def give_up_compiling(self, error, x=None) -> None:
        """Continues uncompiled, where compiling was the model's own choice.

        Args:
            error: why it cannot be compiled.
            x: the inputs of the step, if it was seen in one. If only batches
                of another length than the first cannot be compiled, the
                others still are.
        """
        network = self._compiled[1]
        if network is not None and network.is_later(x):
            network.leave_out(x)
        elif self.decides_compiling:
            self._compiled = self._compiled[0], None
        else:
            raise error
        say(f"The training step is not compiled. Received: {_reason(error)}")

    def call(self, inputs, training=None):
        if self._infers and self.jit_compile:
            x = network_inputs(inputs)
            batch = self._inference_batch(x)
            if batch is not None:
                try:
                    return batch.inference(x)
                except torch.OutOfMemoryError:
                    raise
                # Of tracing, of the compiler and of its tools: many kinds.
                except Exception as error:  # noqa: BLE001
                    self._inference = self._inference[0], None
                    say(
                        "The forward pass is not compiled. Received: "
                        f"{_reason(error)}"
                    )
        return super().call(inputs, training)

    def _inference_batch(self, x):
        """The compiled forward pass for a batch, or `None`.

        A graph is compiled at the second batch in a row with the same number
        of rows: compiling for the last batch of a pass does not pay.
        """
        rows = keras.tree.flatten(x)[0].shape[0]
        again, self._latest_rows = rows == self._latest_rows, rows
        # Noted once for each call of `evaluate` and `predict`.
        if self._inference[0] != self._seen_variables:
            self._inference = self._seen_variables, {}
        networks = self._inference[1]
        if networks is None or not (again or rows in networks):
            return None
        if rows not in networks:
            if len(networks) == MOST_GRAPHS or self._rematerialized():
                return None
            networks[rows] = CompiledNetwork(self)
        return networks[rows].at(x)

    @contextmanager
    def _inferring(self):
        self._infers = True
        try:
            yield
        finally:
            self._infers = False

    def test_step(self, data):
        with self._inferring():
            return super().test_step(data)

    def predict_step(self, data):
        with self._inferring():
            return super().predict_step(data)

    def _rematerialized(self):
        """The first layer that is computed twice, or `None`."""
        for layer in _keras_internals.flatten_layers(self.model):
            if _keras_internals.is_rematerialized(layer):
                return layer
        return None

    def _check_compilable(self):
        layer = self._rematerialized()
        if layer is not None:
            raise ValueError(
                "Expected no `RematScope` with `jit_compile=True` on torch. "
                f"Received: '{layer.name}', which is computed twice: a "
                "compiled graph decides by itself what to keep. Leave one of "
                "them out."
            )

    @property
    def shard(self):
        return self.replicas.rank, self.replicas.size

    @property
    def threads(self):
        devices = {v.value.device.type for v in self.variables}
        return torch.get_num_threads() if devices == {"cpu"} else 1

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

    def train_step(self, data):
        # A compiled graph would free what a second backward pass needs.
        passes = (
            several_backward_passes() if self.jit_compile else nullcontext()
        )
        with passes:
            return TorchStep(self, data).run()

    def keeps_logits_apart(self, y, y_pred) -> bool:
        """Whether all that reads the logits of tokens sums over tokens."""
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


def _reason(error) -> str:
    return str(error).split("Received: ")[-1].split(" Leave ")[0]
