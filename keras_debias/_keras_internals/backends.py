"""Tensor operations that each backend needs in its own form."""

import itertools
from collections.abc import Callable

import keras
from keras import ops


def map_chunks(function: Callable, chunks: list, rest: list | None, shape):
    """Applies a function to chunks of rows, and joins what it returns.

    Args:
        function: function of tensors `(rows, width)` to one such tensor.
        chunks: list of tensors `(chunks, rows, width)`, its arguments.
        rest: list of tensors `(rows, width)` that fill no chunk, or `None`.
        shape: the axes of the result before its last one.

    Returns:
        A tensor of shape `(*shape, width)`.
    """
    if keras.config.backend() == "torch":
        return _fill(function, chunks, rest, shape)
    joined = ops.map(lambda parts: function(*parts), chunks)
    joined = ops.reshape(joined, (-1, ops.shape(joined)[-1]))
    if rest is not None:
        joined = ops.concatenate([joined, function(*rest)])
    return ops.reshape(joined, (*shape, ops.shape(joined)[-1]))


def _fill(function, chunks, rest, shape):
    """Writes into one tensor, since joining chunks would need two.

    The tensor is made in its final shape: autograd adds the gradient of
    another term in place, but not to a view.
    """
    result, start = None, 0
    everything = itertools.chain(zip(*chunks), () if rest is None else (rest,))
    for parts in everything:
        part = function(*parts)
        if result is None:
            result = part.new_empty((*shape, part.shape[-1]))
        rows = result.view(-1, part.shape[-1])
        rows[start : start + len(part)] = part
        start += len(part)
    return result


def with_gradient(function: Callable, x, factor: int = 1):
    """The value of a function of a tensor whose gradient is given.

    Args:
        function: function of `x` to `(value, gradient)`; `gradient` maps the
            gradient of the value to a tensor like `x`.
        x: float tensor.
        factor: int that multiplies the gradient. Defaults to `1`.
    """
    if keras.config.backend() == "tensorflow" and hasattr(x, "graph"):
        # A `custom_gradient` in a graph is never freed, nor is the graph with
        # all weights in it.
        return _with_slope(function, x)

    @ops.custom_gradient
    def evaluate(outputs):
        value, gradient = function(outputs)

        def backward(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            return gradient(upstream if factor == 1 else upstream * factor)

        return value, backward

    return evaluate(x)


def _with_slope(function, x):
    """`with_gradient` as a product of which only the gradient counts."""
    if keras.backend.standardize_dtype(x.dtype) == "float16":
        # The gradient of the value is what keeps the slope within its range.
        x = ops.cast(x, "float32")
    fixed = ops.stop_gradient(x)
    value, gradient = function(fixed)
    slope = ops.stop_gradient(gradient(ops.ones_like(value)))
    # Zeros, whose gradient is the slope; infinite logits may have none.
    zeros = ops.where(slope == 0, slope, slope * (x - fixed))
    return ops.stop_gradient(value) + ops.cast(ops.sum(zeros), value.dtype)
