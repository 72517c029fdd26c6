from contextlib import nullcontext

import keras
import torch
from keras import ops
from keras.utils import unpack_x_y_sample_weight

from keras_debias import _keras_internals
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.inputs import without_inputs
from keras_debias.training.one_pass import Pull
from keras_debias.training.run_callbacks import SameReplicas
from keras_debias.training.torch_replicas import Replicas


class TorchDebiasedModel(BaseDebiasedModel):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.replicas = Replicas()
        self.step_count = self.add_weight(
            name="step_count",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    def compile(self, *args, jit_compile="auto", **kwargs):
        """As for all backends; `torch.compile` takes plain training only.

        Raises:
            ValueError: If `jit_compile=True` meets projections or
                regularizers: compiled layers do not tell what goes through
                them, and EDGE's update comes out wrong.
        """
        if jit_compile is True and (
            len(self.objectives()) > 1 or self.regularizers
        ):
            raise ValueError(
                'Expected `jit_compile=False` or "auto" on torch for a model '
                "with projections or regularizers: `torch.compile` hides "
                "what their gradients need. Received: jit_compile=True. Leave "
                "it out, or train on jax, where every step is compiled."
            )
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    @property
    def shard(self):
        return self.replicas.rank, self.replicas.size

    def own_callbacks(self):
        return [SameReplicas(self.replicas)] if self.replicas.size > 1 else []

    def _forward(self, x):
        """The forward pass, with random numbers that a resumed run repeats.

        Keras' dropout without a seed draws from torch's global generator;
        each step gets its own state of it, and the global one is put back.
        """
        count = int(self.step_count.value)
        self.step_count.assign(count + 1)
        seed = int(self.shuffle_seed.value) * 1_000_003 + count
        # Each process drops other units; one alone has rank 0.
        seed += self.replicas.rank * 7_368_787
        devices = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return self(x, training=True)

    def train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        state = self.forward_state()
        before = [v.value.clone() for v in state]

        with torch.no_grad():
            teachers = self.regularization.teacher_outputs(x)
        variables = self.trainable_variables
        shared = self.one_pass(variables)
        with nullcontext() if shared is None else shared.recording() as calls:
            y_pred = self._forward(x)
        mask = self.regularization.mask(x, y_pred, sample_weight)
        # From here on, the batch is that of all processes.
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
        loss = _keras_internals.expand_loss(self, x, y, y_pred, sample_weight)
        terms = self.regularization.values(y, y_pred, mask, teachers)
        penalty = self.regularization.penalty(terms, self.optimizer.iterations)
        values = self.values(loss, penalty, y, y_pred, sample_weight)
        finite = bool(self.is_finite(self.total(loss, penalty), y_pred))
        rows = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        _keras_internals.loss_tracker(self).update_state(
            loss if finite else loss * float("nan"), sample_weight=rows
        )
        self.regularization.track(terms, rows)
        with torch.no_grad():
            if not finite:
                for variable, value in zip(state, before):
                    variable.assign(value)
        if finite:
            scaled = [self.optimizer.scale_loss(value) for value in values]
            pull = _Pull(self, scaled, variables, shared, calls)
            update = self.find_update(pull.each, pull.weighted, variables)
            with torch.no_grad():
                self.optimizer.apply(update, variables)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def choose(self, condition, first, second):
        return first() if bool(condition) else second()

    def combine(self, gradients, variables):
        with torch.no_grad():
            return super().combine(gradients, variables)


class _Pull(Pull):
    def __init__(self, model, values, variables, shared, calls):
        rows = len(calls[-1].outputs) if calls else 0
        fits = shared is not None and shared.fits(calls, rows)
        super().__init__(model, shared if fits else None, calls)
        self.values = values
        self.variables = variables
        self.tensors = [v.value for v in variables]

    def contracted(self, count):
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
                _pull_back,
            )
        return self._mean(found)

    def weighted(self, rows):
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


def _pull_back(function, values, cotangents):
    with torch.enable_grad():
        values = [value.detach().requires_grad_() for value in values]
        return torch.autograd.grad(function(values), values, cotangents)
