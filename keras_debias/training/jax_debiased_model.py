import dataclasses
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import keras
from keras.utils import unpack_x_y_sample_weight

from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.shared_backward import GradientComputer


class JaxDebiasedModel(BaseDebiasedModel):
    @property
    def batch_parts(self):
        distribution = keras.distribution.distribution()
        if distribution is None or distribution.batch_dim_name is None:
            return 1
        mesh = distribution.device_mesh
        axis = mesh.axis_names.index(distribution.batch_dim_name)
        return int(mesh.shape[axis])

    def train_step(self, state, data):
        trainable, rest, optimizer_state, metrics_state = state
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        scaling = list(zip(self.optimizer.variables, optimizer_state))
        present = list(zip(self.trainable_variables, trainable))
        present += list(zip(self.non_trainable_variables, rest))
        teachers = self.regularization.teacher_outputs(x, present)

        shared = self.shared_backward(self.trainable_variables)
        calls = []

        def forward(trainable, perturbations=None):
            watch = (
                nullcontext()
                if shared is None
                else shared.recording(perturbations)
            )
            with watch as found:
                _, aux = self.compute_loss_and_updates(
                    trainable,
                    rest,
                    metrics_state,
                    x,
                    y,
                    sample_weight,
                    training=True,
                    optimizer_variables=optimizer_state,
                )
            calls[:] = found or ()
            return aux, [call.inputs for call in calls]

        def values_of(trainable, perturbations):
            aux, inputs = forward(trainable, perturbations)
            loss, y_pred = aux[:2]
            mask = self.regularization.mask(x, y_pred, sample_weight)
            with keras.StatelessScope(state_mapping=scaling):
                values = self.step_values(
                    loss, mask, teachers, x, y, y_pred, sample_weight
                )
            found = (*aux, values.terms, values.is_finite, inputs)
            return jnp.stack(values.objectives), found

        perturbations = self._perturbations(forward, trainable, shared, calls)
        if perturbations is None:
            shared = None
        values, vjp, aux = jax.vjp(
            values_of, trainable, perturbations, has_aux=True
        )
        loss, y_pred, new_rest, metrics_state, terms, finite, inputs = aux
        gradients = _GradientComputer(
            self, values, vjp, shared, shared and list(zip(calls, inputs))
        )
        mapping = list(zip(self.trainable_variables, trainable))
        mapping += list(zip(self.non_trainable_variables, rest))
        mapping += list(zip(self.metrics_variables, metrics_state))
        mapping += scaling
        with keras.StatelessScope(state_mapping=mapping) as scope:
            update = self.compute_update(gradients, self.trainable_variables)
            self.regularization.track(terms, len(keras.tree.flatten(x)[0]))
        metrics_state = [
            scope.get_current_value(v) for v in self.metrics_variables
        ]

        trainable, optimizer_state = jax.lax.cond(
            finite,
            lambda: tuple(
                self.optimizer.stateless_apply(
                    optimizer_state, update, trainable
                )
            ),
            lambda: (trainable, optimizer_state),
        )
        # Only what the step wrote: most of it is the frozen base.
        new_rest = [
            scope.get_current_value(v) if v is self.cached_norm_ratio else new
            for v, new in zip(self.non_trainable_variables, new_rest)
        ]
        rest = [
            old if new is old else jnp.where(finite, new, old)
            for new, old in zip(new_rest, rest)
        ]
        logs, metrics_state = self._update_metrics_variables(
            metrics_state,
            jnp.where(finite, loss, jnp.nan),
            x,
            y,
            y_pred,
            sample_weight,
        )
        return logs, (trainable, rest, optimizer_state, metrics_state)

    def _perturbations(self, forward, trainable, shared, calls):
        """Zeros to add to the outputs of trainable layers.

        `None` if the objectives cannot share a backward pass.
        """
        if shared is None:
            return None
        jax.eval_shape(forward, trainable)
        if not shared.fits(calls):
            return None
        return [
            jnp.zeros(call.outputs.shape, call.outputs.dtype) for call in calls
        ]

    def choose(self, condition, first, second):
        return jax.lax.cond(condition, first, second)


class _GradientComputer(GradientComputer):
    def __init__(self, model, values, vjp, shared, calls):
        super().__init__(model, shared, calls)
        self.values = values
        self.vjp = vjp

    def per_objective_gradients(self, count):
        rows = jnp.eye(len(self.values), dtype=self.values.dtype)[:count]
        perturbations = [self.vjp(row)[1] for row in rows]
        return self.shared.contract(
            [
                dataclasses.replace(call, inputs=inputs, outputs=None)
                for call, inputs in self.calls
            ],
            perturbations[0][:-1],
            # What the other passes do below the outputs is never used, and
            # the compiler leaves it out.
            self.shared.weights([each[-1] for each in perturbations]),
            self.model.trainable_variables,
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
