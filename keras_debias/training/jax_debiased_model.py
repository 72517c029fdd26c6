import jax
import jax.numpy as jnp
import keras
from keras.utils import unpack_x_y_sample_weight

from keras_debias.training.base_debiased_model import BaseDebiasedModel


class JaxDebiasedModel(BaseDebiasedModel):
    def train_step(self, state, data):
        trainable, rest, optimizer_state, metrics_state = state
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        scaling = list(zip(self.optimizer.variables, optimizer_state))

        def values_of(trainable):
            loss, aux = self.compute_loss_and_updates(
                trainable,
                rest,
                metrics_state,
                x,
                y,
                sample_weight,
                training=True,
                optimizer_variables=optimizer_state,
            )
            with keras.StatelessScope(state_mapping=scaling):
                others = [
                    self.optimizer.scale_loss(value)
                    for value in self.other_values(y, aux[1], sample_weight)
                ]
            return jnp.stack([loss, *others]), aux

        values, pull_back, aux = jax.vjp(values_of, trainable, has_aux=True)
        loss, y_pred, new_rest, metrics_state = aux
        gradients = {
            objective: pull_back(row)[0]
            for objective, row in zip(
                self.objectives(), jnp.eye(len(values), dtype=values.dtype)
            )
        }
        mapping = list(zip(self.trainable_variables, trainable))
        mapping += list(zip(self.metrics_variables, metrics_state))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            update = self.combine(gradients, self.trainable_variables)
        metrics_state = [
            scope.get_current_value(v) for v in self.metrics_variables
        ]

        finite = self.is_finite(loss, y_pred)
        trainable, optimizer_state = jax.lax.cond(
            finite,
            lambda: tuple(
                self.optimizer.stateless_apply(
                    optimizer_state, update, trainable
                )
            ),
            lambda: (trainable, optimizer_state),
        )
        # Only what the forward pass wrote: most of it is the frozen base.
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
