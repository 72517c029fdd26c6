import dataclasses

import torch

from keras_debias import _keras_internals
from keras_debias.losses.row_parts import across
from keras_debias.training.inputs import network_inputs
from keras_debias.training.inputs import without_inputs
from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.step import Step
from keras_debias.training.torch_compiled_call import seeded


class TorchStep(Step):
    """A training step on torch, of one process or several.

    Each process runs the network on its rows. From then on the batch is the
    union over all of them: `gather` completes every tensor of the batch. If
    `model.keeps_logits_apart` says so, the logits stay where they are, and
    `parts` sums over processes instead.
    """

    def __init__(self, model, data):
        super().__init__(model, data)
        self.replicas = model.replicas
        self.parts = None
        self.compiled = model.compiled_batch(
            network_inputs(self.x), self.variables, self.shared
        )
        self.state = model.step_state(self.variables)
        self.before = [v.value.clone() for v in self.state]

    def run(self):
        found = self._run_graph()
        if found is None:
            return super().run()
        values, update, written, self.y_pred = found
        self._count()
        self.track(values)
        if bool(values.is_finite):
            with torch.no_grad():
                for variable, value in written:
                    variable.assign(value)
                self.model.optimizer.apply(update, self.variables)
        else:
            self._restore()
        return self.logs()

    def _run_graph(self):
        """The step up to its update as one graph, or `None` if there is none.

        An error holds the tensors of the step until this returns.
        """
        graph = self.model.compiled_step(self.compiled)
        if graph is None:
            return None
        try:
            with self._random_numbers():
                x = self.compiled.wide(self.x)
                return graph(x, self.y, self.sample_weight)
        except torch.OutOfMemoryError:
            raise
        # Of tracing, of the compiler and of its tools: many kinds.
        except Exception as error:  # noqa: BLE001
            self.model.give_up_compiled_step(error, self.compiled)
            self._restore()
            return None

    def teacher_outputs(self):
        return self._or_uncompiled(self._run_teachers)

    def _run_teachers(self) -> dict:
        run = None if self.compiled is None else self.compiled.teacher
        with torch.no_grad():
            return self.model.regularization.teacher_outputs(self.x, run=run)

    def _or_uncompiled(self, run):
        """Runs a pass once more, uncompiled, if it cannot be compiled."""
        if self.compiled is None:
            return run()
        try:
            return run()
        except torch.OutOfMemoryError:
            raise
        # Of tracing, of the compiler and of its tools: many kinds.
        except Exception as error:  # noqa: BLE001
            self.model.give_up_compiling(error, network_inputs(self.x))
            self.compiled = None
            self._restore()
        # Outside: the error holds the tensors of the pass that failed.
        return run()

    def _restore(self) -> None:
        """Puts back what the forward pass changes."""
        with torch.no_grad():
            for variable, value in zip(self.state, self.before):
                variable.assign(value)

    def forward(self, teachers):
        self._or_uncompiled(self._run_network)
        mask = self.model.regularization.mask(
            self.x, self.y_pred, self.sample_weight
        )
        if self.model.keeps_logits_apart(self.y, self.y_pred):
            mask, teachers = self._split(mask, teachers)
        else:
            mask, teachers = self._gather(mask, teachers)
        with across(self.parts):
            loss = _keras_internals.training_loss(
                self.model, self.x, self.y, self.y_pred, self.sample_weight
            )
            values = self.model.step_values(
                *(loss, mask, teachers),
                *(self.x, self.y, self.y_pred, self.sample_weight),
            )
        if self.parts is None:
            return values
        # All must agree, and NaN may be in the logits of one alone.
        refused = self.parts.total(1.0 - values.is_finite.float())
        return dataclasses.replace(values, is_finite=refused == 0)

    def _run_network(self) -> None:
        with self._random_numbers():
            if self.compiled is not None:
                outputs = self.compiled.forward(network_inputs(self.x))
                self.y_pred, self.calls = outputs
                self.model.say_compiled_in_part()
            else:
                with self.recording() as self.calls:
                    self.y_pred = self.model(self.x, training=True)
        self._count()

    def _random_numbers(self):
        """A context with random numbers that a resumed run repeats.

        Dropout without a seed draws from torch's global generator; each step
        gets its own state of it, and the global one is put back.
        """
        count = int(self.model.step_count.value)
        seed = int(self.model.shuffle_seed.value) * 1_000_003 + count
        # Each process drops other units; a single process has rank 0.
        return seeded(seed + self.replicas.rank * 7_368_787)

    def _count(self) -> None:
        self.model.step_count.assign(self.model.step_count + 1)

    def _gather(self, mask, teachers) -> tuple:
        """Makes the batch that of all processes."""
        self.y, self.y_pred, self.sample_weight, mask, outputs, self.x = (
            self.replicas.gather(
                self.y,
                self.y_pred,
                self.sample_weight,
                mask,
                list(teachers.values()),
                without_inputs(self.x),
                inputs=self.x,
            )
        )
        return mask, dict(zip(teachers, outputs))

    def _split(self, mask, teachers) -> tuple:
        """Makes all of the batch but the logits that of all processes."""
        parts = self.replicas.parts(self.x, self.y_pred.device)
        self.local = parts.local(
            (self.x, self.y, self.y_pred, self.sample_weight)
        )
        self.y, self.y_pred, self.sample_weight, mask, self.x = (
            parts.without_logits(
                *(self.y, self.y_pred, self.sample_weight),
                *(mask, without_inputs(self.x)),
            )
        )
        self.parts = parts
        return mask, parts.local(teachers)

    def is_true(self, condition) -> bool:
        return bool(condition)

    def track(self, values):
        rows = None if self.parts is None else self.parts.rows
        self.model.track_loss(values, self.y_pred, rows)

    def gradients(self, values):
        return TorchGradientComputer(self, values.objectives)

    def update(self, values):
        if bool(values.is_finite):
            with torch.no_grad():
                update = self.compute_update(values)
                self.model.optimizer.apply(update, self.variables)
        else:
            self._restore()

    def logs(self):
        if self.parts is None:
            return super().logs()
        _, y, y_pred, _ = self.local
        self.parts.add_metrics(
            _keras_internals.compiled_metrics(self.model, y, y_pred),
            lambda: self.model.compute_metrics(*self.local),
        )
        return self.model.get_metrics_result()


class TorchGradientComputer(GradientComputer):
    """Gradients by torch, means over processes."""

    def __init__(self, step, values):
        super().__init__(step.model, step.shared, step.calls)
        self.is_true = step.is_true
        self.replicas = step.replicas
        self.values = values
        self.variables = step.variables
        self.tensors = [v.value for v in step.variables]

    def choose(self, condition, first, second):
        return first() if self.is_true(condition) else second()

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
        gradients = self.shared.contract(
            self.calls,
            gradients,
            self.shared.weights(cotangents),
            self.variables,
            _vjp,
        )
        return self._mean(gradients)

    def weighted_sums(self, rows):
        return self._mean(self.sums(rows, self.tensors))

    def sums(self, rows, tensors, retain_graph=False):
        """`weighted_sums` for any tensors, of this process."""
        sums = []
        for number, row in enumerate(rows):
            chosen = [i for i, weight in enumerate(row) if weight is not None]
            gradients = torch.autograd.grad(
                [self.values[i] for i in chosen],
                tensors,
                [row[i].to(self.values[i].dtype) for i in chosen],
                retain_graph=retain_graph or number < len(rows) - 1,
                allow_unused=True,
            )
            sums.append(
                [
                    torch.zeros_like(t) if g is None else g
                    for g, t in zip(gradients, tensors)
                ]
            )
        return sums

    def _mean(self, sums):
        return list(self.replicas.mean(dict(enumerate(sums))).values())


def _vjp(function, values, cotangents):
    with torch.enable_grad():
        values = [value.detach().requires_grad_() for value in values]
        return torch.autograd.grad(function(values), values, cotangents)
