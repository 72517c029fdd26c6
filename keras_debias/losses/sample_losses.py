import keras
from keras import ops

from keras_debias import _keras_internals


def scores_tokens(loss, y_pred) -> bool:
    """Whether a loss is Keras' cross entropy, of classes of tokens."""
    if not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return False
    options = _keras_internals.loss_options(loss)
    return (
        options["ignore_class"] is None
        and options["axis"] == -1
        and not keras.tree.is_nested(y_pred)
        and len(y_pred.shape) > 2
    )


def sample_losses(loss, y_true, y_pred):
    """The values of a loss, one a sample, or a token.

    Tokens count as rows of their own: with more than two axes, Keras on torch
    moves the classes to the second, along which a soft-max over a vocabulary
    takes ten to thirty times as long.
    """
    if not scores_tokens(loss, y_pred):
        return loss.call(y_true, y_pred)
    y_true, y_pred = (
        ops.convert_to_tensor(y_true),
        ops.convert_to_tensor(y_pred),
    )
    if len(y_true.shape) == len(y_pred.shape):
        y_true = ops.squeeze(y_true, axis=-1)
    tokens = ops.shape(y_true)
    losses = loss.call(
        ops.reshape(y_true, (-1,)),
        ops.reshape(y_pred, (-1, y_pred.shape[-1])),
    )
    return ops.reshape(losses, tokens)
