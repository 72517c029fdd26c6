import dataclasses

import jax
import jax.numpy as jnp
import keras

from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.step import Step
from keras_debias.training.step_values import StepValues


class JaxStep(Step):
    """A training step on jax: from the state before it to the state after.

    Args:
        model: the `DebiasedModel`.
        state: tuple of the values of all variables, as `train_step` gets it.
        data: the batch.
    """

    def __init__(self, model, state, data):
        super().__init__(model, data)
        self.trainable, self.rest, self.optimizer_state, self.metrics_state = (
            state
        )
        self.scaling = list(
            zip(model.optimizer.variables, self.optimizer_state)
        )

    @property
    def state(self) -> tuple:
        """The values of all variables, in the order of `train_step`."""
        return (
            self.trainable,
            self.rest,
            self.optimizer_state,
            self.metrics_state,
        )

    def teacher_outputs(self):
        return self.model.regularization.teacher_outputs(
            self.x, self._weights()
        )

    def _weights(self):
        """Pairs of the network's variables and their present values."""
        return [
            *zip(self.variables, self.trainable),
            *zip(self.model.non_trainable_variables, self.rest),
        ]

    def forward(self, teachers):
        perturbations = self._perturbations()

        def values_of(trainable, perturbations):
            aux, calls = self._forward(trainable, perturbations)
            loss, y_pred = aux[:2]
            with keras.StatelessScope(state_mapping=self.scaling):
                values = self.values(loss, y_pred, teachers)
            aux = *aux, values.terms, values.is_finite
            return jnp.stack(values.objectives), (aux, calls)

        objectives, self.vjp, (aux, self.inputs) = jax.vjp(
            values_of, self.trainable, perturbations, has_aux=True
        )
        loss, self.y_pred, self.new_rest, metrics_state, *others = aux
        self.scope = keras.StatelessScope(
            [
                *self._weights(),
                *zip(self.model.metrics_variables, metrics_state),
                *self.scaling,
            ]
        )
        return StepValues(loss, objectives, *others)

    def _forward(self, trainable, perturbations=None):
        """Outputs and new state, and the inputs of the recorded calls."""
        with self.recording(perturbations) as calls:
            _, aux = self.model.compute_loss_and_updates(
                trainable,
                self.rest,
                self.metrics_state,
                self.x,
                self.y,
                self.sample_weight,
                training=True,
                optimizer_variables=self.optimizer_state,
            )
        self.calls = calls or ()
        return aux, [call.inputs for call in self.calls]

    def _perturbations(self):
        """Zeros to add to the outputs of trainable layers.

        `None` if the objectives cannot share a backward pass.
        """
        if self.shared is None:
            return None
        jax.eval_shape(self._forward, self.trainable)
        if not self.shared.fits(self.calls):
            self.shared = None
            return None
        return [
            jnp.zeros(call.outputs.shape, call.outputs.dtype)
            for call in self.calls
        ]

    def gradients(self, values):
        return _GradientComputer(self, values.objectives)

    def track(self, values):
        with self.scope:
            super().track(values)

    def update(self, values):
        with self.scope:
            update = self.compute_update(values)

        def apply():
            return tuple(
                self.model.optimizer.stateless_apply(
                    self.optimizer_state, update, self.trainable
                )
            )

        self.trainable, self.optimizer_state = jax.lax.cond(
            values.is_finite,
            apply,
            lambda: (self.trainable, self.optimizer_state),
        )
        ratio = self.model.cached_norm_ratio
        new_rest = [
            self.scope.get_current_value(v) if v is ratio else new
            for v, new in zip(self.model.non_trainable_variables, self.new_rest)
        ]
        # Only what the step wrote: most of it is the frozen base.
        self.rest = [
            old if new is old else jnp.where(values.is_finite, new, old)
            for new, old in zip(new_rest, self.rest)
        ]

    def logs(self):
        with self.scope:
            logs = super().logs()
        self.metrics_state = [
            self.scope.get_current_value(v)
            for v in self.model.metrics_variables
        ]
        return logs


class _GradientComputer(GradientComputer):
    def __init__(self, step, values):
        calls = [
            dataclasses.replace(call, inputs=inputs)
            for call, inputs in zip(step.calls, step.inputs)
        ]
        super().__init__(step.model, step.shared, calls)
        self.values = values
        self.vjp = step.vjp
        self.variables = step.variables

    def choose(self, condition, first, second):
        return jax.lax.cond(condition, first, second)

    def per_objective_gradients(self, count):
        rows = jnp.eye(len(self.values), dtype=self.values.dtype)[:count]
        perturbations = [self.vjp(row)[1] for row in rows]
        return self.shared.contract(
            self.calls,
            perturbations[0][:-1],
            # What the other passes do below the outputs is never used, and
            # the compiler leaves it out.
            self.shared.weights([each[-1] for each in perturbations]),
            self.variables,
            _vjp,
        )

    def weighted_sums(self, rows):
        return [
            self.vjp(
                jnp.stack(
                    [
                        jnp.zeros((), self.values.dtype)
                        if weight is None
                        else jnp.asarray(weight, self.values.dtype)
                        for weight in row
                    ]
                )
            )[0]
            for row in rows
        ]


def _vjp(function, values, cotangents):
    values = [jnp.asarray(value) for value in values]
    return jax.vjp(function, values)[1](cotangents)[0]
