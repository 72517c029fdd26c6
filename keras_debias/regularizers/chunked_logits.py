"""Outputs as rows of logits, and sums over them with little memory.

A row is a sample of a classifier or a token of a language model. With a large
vocabulary one float32 tensor of all rows is as large as everything else in a
step: so everything that depends on the logits is computed for some rows at a
time, forward and, through `with_gradient`, backward.
"""

import math
import operator

from keras import ops
from keras import tree

from keras_debias import _keras_internals
from keras_debias.losses.row_parts import num_parts

# Numbers handled at a time at least: 4 MiB in float32, which caches hold.
CHUNK = 2**20
# Chunks at most: more would keep a GPU waiting for Python.
_MOST_CHUNKS = 64


def check_outputs(y_pred, mask=None, teacher_pred=None) -> tuple:
    """The static shape of the outputs; raises where shapes do not fit."""
    shape = tuple(y_pred.shape)
    if len(shape) not in (2, 3):
        raise ValueError(
            "Expected `y_pred` to be logits of shape (batch, classes) or "
            f"(batch, tokens, vocabulary). Received: y_pred of shape {shape}. "
            "Regularizers need a model with one such output."
        )
    if mask is not None and not _agree(tuple(mask.shape), shape[:-1]):
        raise ValueError(
            f"Expected `mask` of the shape {shape[:-1]}, one value for each "
            f"row of `y_pred`. Received: mask of shape {tuple(mask.shape)}"
        )
    if teacher_pred is not None:
        found = tuple(teacher_pred.shape)
        if not _agree(found, shape):
            raise ValueError(
                "Expected the teacher's outputs to have the shape of the "
                f"student's, {shape}. Received: teacher_pred of shape "
                f"{found}. Use a teacher with the same head and tokenizer."
            )
    return shape


def _agree(found, expected):
    return len(found) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(found, expected)
    )


def num_rows(shape) -> int | None:
    """How many rows outputs of a shape have; `None` if not known."""
    return None if None in shape[:-1] else math.prod(shape[:-1])


def row_weights(y_pred, mask):
    """One or zero for each row, float32, with a last axis of size one."""
    if mask is None:
        return ops.ones_like(y_pred[..., :1], dtype="float32")
    return ops.expand_dims(ops.cast(mask, "float32"), -1)


def map_rows(function, *tensors):
    """Applies a function of `(rows, width)` tensors; rows stay in order.

    All tensors share their axes but the last, which may differ.
    """
    shape = ops.shape(tensors[0])[:-1]
    if _is_unknown_and_large(tensors):
        return ops.map(lambda parts: function(*parts), tensors)
    chunks, rest = _chunks(tensors)
    if chunks is None:
        joined = function(*rest)
        return ops.reshape(joined, (*shape, ops.shape(joined)[-1]))
    return _keras_internals.map_chunks(function, chunks, rest, shape)


def sum_rows(function, *tensors):
    """Sums what a function of `(rows, width)` tensors gives for all rows."""
    if _is_unknown_and_large(tensors):
        results = ops.map(lambda parts: function(*parts), tensors)
        return tree.map_structure(lambda r: ops.sum(r, axis=0), results)
    chunks, rest = _chunks(tensors)
    if chunks is None:
        return function(*rest)

    def add(i, total):
        return _plus(total, function(*(t[i] for t in chunks)))

    # One at a time: each result may be as wide as the vocabulary.
    first = function(*(t[0] for t in chunks))
    total = ops.fori_loop(1, chunks[0].shape[0], add, first)
    return total if rest is None else _plus(total, function(*rest))


def _plus(a, b):
    return tree.map_structure(operator.add, a, b)


def _is_unknown_and_large(tensors):
    """Whether a graph does not know the rows, and they may be too many.

    Then the chunks are the samples of the batch.
    """
    shape = tensors[0].shape
    if num_rows(shape) is not None or len(shape) == 2:
        return False
    return shape[1] is None or shape[1] * shape[2] > CHUNK // 4


def _chunks(tensors) -> tuple:
    """The rows as `(chunks, size, width)`, and what is left of them.

    The first is `None` where all rows are one chunk, the second where
    nothing is left.
    """
    flat = [ops.reshape(t, (-1, ops.shape(t)[-1])) for t in tensors]
    rows = num_rows(tensors[0].shape)
    if rows is None:
        return None, flat
    size = max(1, CHUNK // tensors[0].shape[-1], -(-rows // _MOST_CHUNKS))
    if size >= rows:
        return None, flat
    # What is left costs a copy: rather somewhat smaller chunks.
    even = (n for n in range(size, size // 2, -1) if rows % n == 0)
    size = next(even, size)
    whole = rows // size * size
    chunks = [
        ops.reshape(t[:whole], (-1, size, ops.shape(t)[-1])) for t in flat
    ]
    return chunks, None if whole == rows else [t[whole:] for t in flat]


def with_gradient(function, y_pred):
    """The value of `function(y_pred)` with a gradient of its own.

    Args:
        function: function of the logits to `(value, gradient)`; `gradient`
            maps the factor from above to a tensor like the logits.
        y_pred: the logits.
    """
    return _keras_internals.with_gradient(function, y_pred, num_parts())
