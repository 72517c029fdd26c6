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
        present = list(zip(self.trainable_variables, trainable))
        present += list(zip(self.non_trainable_variables, rest))
        teachers = self.regularization.teacher_outputs(x, present)

        def values_of(trainable):
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
            loss, y_pred = aux[:2]
            mask = self.regularization.mask(x, y_pred, sample_weight)
            terms = self.regularization.values(y, y_pred, mask, teachers)
            with keras.StatelessScope(state_mapping=scaling):
                penalty = self.regularization.penalty(
                    terms, self.optimizer.iterations
                )
                values = self.values(loss, penalty, y, y_pred, sample_weight)
                scaled = [self.optimizer.scale_loss(v) for v in values]
            total = self.total(loss, penalty)
            return jnp.stack(scaled), (*aux, terms, total)

        values, pull_back, aux = jax.vjp(values_of, trainable, has_aux=True)
        loss, y_pred, new_rest, metrics_state, terms, total = aux
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
            self.regularization.track(terms, len(keras.tree.flatten(x)[0]))
        metrics_state = [
            scope.get_current_value(v) for v in self.metrics_variables
        ]

        finite = self.is_finite(total, y_pred)
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
