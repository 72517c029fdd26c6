import keras
import tensorflow as tf
from keras.utils import unpack_x_y_sample_weight

from keras_debias import _keras_internals
from keras_debias.training.base_debiased_model import BaseDebiasedModel


class TensorFlowDebiasedModel(BaseDebiasedModel):
    def __init__(self, *args, **kwargs):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                "Expected one device on tensorflow: each replica would "
                "project the gradients of its own rows. Received: a "
                f"`tf.distribute` strategy of {replicas} replicas. Use the "
                "torch backend with `torchrun`, or jax with "
                "`keras.distribution`."
            )
        super().__init__(*args, **kwargs)

    def train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        state = self.forward_state()
        before = [tf.identity(v.value) for v in state]

        teachers = self.regularization.teacher_outputs(x)
        with tf.GradientTape(persistent=True) as tape:
            y_pred = self(x, training=True)
            loss = _keras_internals.expand_loss(
                self, x, y, y_pred, sample_weight
            )
            mask = self.regularization.mask(x, y_pred, sample_weight)
            terms = self.regularization.values(y, y_pred, mask, teachers)
            penalty = self.regularization.penalty(
                terms, self.optimizer.iterations
            )
            values = self.values(loss, penalty, y, y_pred, sample_weight)
            scaled = [self.optimizer.scale_loss(value) for value in values]
        finite = self.is_finite(self.total(loss, penalty), y_pred)
        rows = tf.shape(keras.tree.flatten(x)[0])[0]
        _keras_internals.loss_tracker(self).update_state(
            tf.where(finite, loss, float("nan")), sample_weight=rows
        )
        self.regularization.track(terms, rows)
        variables = self.trainable_variables
        gradients = {
            objective: [
                # Dense, and of a shape that projections can read.
                tf.ensure_shape(tf.convert_to_tensor(g), v.shape)
                for g, v in zip(
                    tape.gradient(
                        value,
                        [v.value for v in variables],
                        unconnected_gradients=tf.UnconnectedGradients.ZERO,
                    ),
                    variables,
                )
            ]
            for objective, value in zip(self.objectives(), scaled)
        }
        del tape
        update = self.combine(gradients, variables)

        def apply():
            self.optimizer.apply(update, variables)
            return True

        def skip():
            for variable, value in zip(state, before):
                variable.assign(value)
            return False

        if not self.optimizer.built:
            self.optimizer.build(variables)
        tf.cond(finite, apply, skip)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
