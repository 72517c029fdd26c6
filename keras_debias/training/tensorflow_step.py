import keras
import tensorflow as tf

from keras_debias import _keras_internals
from keras_debias.training.shared_backward import GradientComputer
from keras_debias.training.step import Step


class TensorFlowStep(Step):
    """A training step on tensorflow, where a tape records the forward pass."""

    def __init__(self, model, data):
        super().__init__(model, data)
        self.state = [*model.forward_state(), *model.random_state()]
        self.before = [tf.identity(v.value) for v in self.state]

    def teacher_outputs(self):
        return self.model.regularization.teacher_outputs(self.x)

    def forward(self, teachers):
        with tf.GradientTape(persistent=True) as self.tape:
            with self.recording() as self.calls:
                self.y_pred = self.model(self.x, training=True)
            loss = _keras_internals.training_loss(
                self.model, self.x, self.y, self.y_pred, self.sample_weight
            )
            return self.values(loss, self.y_pred, teachers)

    def gradients(self, values):
        return _GradientComputer(self, values.objectives)

    def update(self, values):
        optimizer = self.model.optimizer
        update = self.compute_update(values)
        del self.tape

        def update_weights(strategy=None):
            optimizer.apply(update, self.variables)

        def apply():
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                # It does not support the call below, so memory leaks.
                update_weights()
            else:
                # Outside of the replica context: tensorflow would never free
                # the gradient of Keras' mean over replicas, nor its graph.
                context = tf.distribute.get_replica_context()
                context.merge_call(update_weights)
            return True

        def restore():
            for variable, value in zip(self.state, self.before):
                variable.assign(value)
            return False

        tf.cond(values.is_finite, apply, restore)


class _GradientComputer(GradientComputer):
    def __init__(self, step, values):
        super().__init__(step.model, step.shared, step.calls)
        self.tape = step.tape
        self.values = values
        self.variables = step.variables

    def choose(self, condition, first, second):
        return tf.cond(condition, first, second)

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
        gradients = self.tape.gradient(
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
            for g, v in zip(gradients, self.variables)
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
