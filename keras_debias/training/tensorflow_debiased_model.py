from contextlib import nullcontext

import keras
import tensorflow as tf
from keras.utils import unpack_x_y_sample_weight

from keras_debias import _keras_internals
from keras_debias.training.base_debiased_model import BaseDebiasedModel
from keras_debias.training.shared_backward import GradientComputer


class TensorFlowDebiasedModel(BaseDebiasedModel):
    def __init__(self, *args, **kwargs):
        _check_one_replica(tf.distribute.get_strategy())
        super().__init__(*args, **kwargs)

    @staticmethod
    def strings(array):
        return tf.constant(array.tolist(), dtype="string")

    def make_train_function(self, force=False):
        # The scope may have been entered after the model was made.
        _check_one_replica(self.distribute_strategy)
        # Within the traced step, each slot would add two graphs.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        state = [*self.forward_state(), *self.random_state()]
        before = [tf.identity(v.value) for v in state]

        teachers = self.regularization.teacher_outputs(x)
        variables = self.trainable_variables
        shared = self.shared_backward(variables)
        with tf.GradientTape(persistent=True) as tape:
            watch = nullcontext() if shared is None else shared.recording()
            with watch as calls:
                y_pred = self(x, training=True)
            loss = _keras_internals.training_loss(
                self, x, y, y_pred, sample_weight
            )
            mask = self.regularization.mask(x, y_pred, sample_weight)
            values = self.step_values(
                loss, mask, teachers, x, y, y_pred, sample_weight
            )
        self.track_loss(loss, values, y_pred)
        gradients = _GradientComputer(
            self, tape, values.objectives, variables, shared, calls
        )
        update = self.compute_update(gradients, variables)
        del tape, gradients

        def update_weights(strategy=None):
            self.optimizer.apply(update, variables)

        def apply():
            if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
                # It does not support the call below, so memory leaks.
                update_weights()
            else:
                # Outside of the replica context: tensorflow would never free
                # the gradient of Keras' mean over replicas, nor its graph.
                context = tf.distribute.get_replica_context()
                context.merge_call(update_weights)
            return True

        def skip():
            for variable, value in zip(state, before):
                variable.assign(value)
            return False

        tf.cond(values.is_finite, apply, skip)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def choose(self, condition, first, second):
        return tf.cond(condition, first, second)


def _check_one_replica(strategy) -> None:
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            "Expected one device on tensorflow: each replica would "
            "project the gradients of its own rows. Received: a "
            f"`tf.distribute` strategy of {replicas} replicas. Use the "
            "torch backend with `torchrun`, or jax with "
            "`keras.distribution`."
        )


class _GradientComputer(GradientComputer):
    def __init__(self, model, tape, values, variables, shared, calls):
        fits = shared is not None and shared.fits(calls)
        super().__init__(model, shared if fits else None, calls)
        self.tape = tape
        self.values = values
        self.variables = variables

    def per_objective_gradients(self, count):
        outputs = self.calls[-1].outputs
        cotangents = [
            self.tape.gradient(
                value,
                outputs,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for value in self.values[:count]
        ]
        gradients = self.tape.gradient(
            self.values[0], [call.outputs for call in self.calls[:-1]]
        )
        return self.shared.contract(
            self.calls,
            gradients,
            self.shared.weights(cotangents),
            self.variables,
            _vjp,
        )

    def weighted_sums(self, rows):
        return [self._gradients(row) for row in rows]

    def _gradients(self, row):
        chosen = [i for i, weight in enumerate(row) if weight is not None]
        found = self.tape.gradient(
            [self.values[i] for i in chosen],
            [v.value for v in self.variables],
            output_gradients=[
                tf.cast(row[i], self.values[i].dtype) for i in chosen
            ],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # Dense, and of a shape that projections can read.
        return [
            tf.ensure_shape(tf.convert_to_tensor(g), v.shape)
            for g, v in zip(found, self.variables)
        ]


def _vjp(function, values, cotangents):
    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = function(values)
    return tape.gradient(
        outputs,
        values,
        output_gradients=cotangents,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
