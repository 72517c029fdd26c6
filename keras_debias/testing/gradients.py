"""Gradients of a function of one tensor, on whichever backend runs."""

import keras
import numpy as np
from keras import ops


def value_and_gradient(function, x) -> tuple[np.ndarray, np.ndarray]:
    """The value of a scalar function at `x`, and its gradient, as arrays.

    Args:
        function: function of a tensor to a scalar tensor.
        x: array or tensor.
    """
    x = ops.convert_to_tensor(x)
    backend = keras.config.backend()
    if backend == "torch":
        x = x.detach().requires_grad_(True)
        value = function(x)
        value.backward()
        gradient = x.grad
    elif backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
            return value, tape.gradient(value, x)

        # As in `fit`, the graph does not know the number of rows.
        shape = [None, *x.shape[1:]]
        value, gradient = run.get_concrete_function(
            tf.TensorSpec(shape, x.dtype)
        )(x)
    else:
        import jax

        value, gradient = jax.jit(jax.value_and_grad(function))(x)
    return tuple(
        np.array(ops.convert_to_numpy(ops.cast(t, "float32")))
        for t in (value, gradient)
    )
