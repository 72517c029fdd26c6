"""Gradients of a loss, through Keras' own `fit`, on every backend."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops


def recorded_gradients(
    network: keras.Model,
    batches,
    variables: list[keras.Variable],
    loss,
    loss_weights=None,
    function: Callable = lambda gradient: gradient,
    batch_size: int | None = None,
) -> list[np.ndarray]:
    """The sum over batches of a function of the gradients of their losses.

    Weights, trainable flags and how the model is compiled stay as they are.
    There is no dropout, and penalties of layers do not count.

    Args:
        network: a built `keras.Model`.
        batches: what `fit` takes as `x`, with labels.
        variables: list of variables of the network, in any order.
        loss: a loss that `compile` takes.
        loss_weights: as for `compile`.
        function: function of a gradient, float32. Defaults to the gradient
            itself.
        batch_size: int. Batches of fewer rows weigh less, by their rows; of
            losses that are means. Defaults to `None`: all weigh the same.

    Returns:
        List of arrays, one for each of `variables`.
    """
    wanted = {id(v) for v in variables}
    flags = [(v, v.trainable) for v in network.weights]
    try:
        for variable, _ in flags:
            variable.trainable = id(variable) in wanted
        recorder = _Recorder(network, batch_size)
        optimizer = _GradientSums(function)
        # Gradients shall not be scaled, whatever the precision.
        recorder.compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            auto_scale_loss=False,
        )
        optimizer.build(recorder.trainable_variables)
        recorder.fit(batches, verbose=0, shuffle=False)
        found = {
            id(v): np.array(ops.convert_to_numpy(total))
            for v, total in zip(recorder.trainable_variables, optimizer.totals)
        }
        return [found[id(v)] for v in variables]
    finally:
        for variable, flag in flags:
            variable.trainable = flag


class _Recorder(keras.Model):
    """A network whose `fit` gives gradients and changes nothing."""

    def __init__(self, network, batch_size):
        super().__init__(dtype=network.dtype_policy, name="gradient_recorder")
        self.network = network
        self.batch_size = batch_size
        self.built = True

    def compute_loss(self, x=None, *args, **kwargs):
        loss = super().compute_loss(x, *args, **kwargs)
        if self.batch_size is None:
            return loss
        rows = ops.shape(keras.tree.flatten(x)[0])[0]
        return loss * ops.cast(rows, loss.dtype) / self.batch_size

    def call(self, inputs, training=None):
        return self.network(inputs, training=False)

    @property
    def losses(self):
        # No penalties: the loss is the task's alone.
        return []


class _GradientSums(keras.optimizers.Optimizer):
    """Adds up what a function makes of gradients, and trains nothing."""

    def __init__(self, function):
        super().__init__(learning_rate=0.0, name="gradient_sums")
        self.function = function

    def build(self, variables):
        super().build(variables)
        self.totals = [
            self.add_variable(v.shape, dtype="float32", name="totals")
            for v in variables
        ]

    def apply(self, grads, trainable_variables=None):
        for total, gradient in zip(self.totals, grads, strict=True):
            # A weight that the loss does not reach has none on tensorflow.
            if gradient is not None:
                gradient = ops.cast(gradient, "float32")
                total.assign_add(self.function(gradient))
        self.iterations.assign_add(1)
