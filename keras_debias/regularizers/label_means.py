"""Mean scores of labels over a batch, and the base of both label terms."""

import abc

from keras import ops

from keras_debias.losses.utils import one_hot
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.utils.numbers import is_number


def smooth_norm(vector, smoothing):
    """The Euclidean norm, with a gradient of zero at zero."""
    total = ops.sum(ops.square(vector))
    return ops.sqrt(total + smoothing**2) - smoothing


def label_means(y_true, y_pred, mask=None):
    """Mean scores of each label over the rows with it and those without it.

    Args:
        y_true: int labels `(batch,)` or `(batch, 1)`, or multi-hot ones of
            the shape of `y_pred`.
        y_pred: scores of shape `(batch, labels)`.
        mask: bool tensor of shape `(batch,)`, or `None`: which rows count.

    Returns:
        `(contain, lack, has_contain, has_lack)`, each of shape `(labels,)`:
        the two means, zero where there is no such row, and ones where there is
        one.
    """
    scores = ops.cast(y_pred, "float32")
    labels = scores.shape[-1]
    shape = tuple(y_true.shape)
    if len(shape) == 2 and shape[-1] == labels and labels != 1:
        contain = ops.cast(ops.cast(y_true, "float32") > 0.5, "float32")
    else:
        ids = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        contain = one_hot(ids, labels, "float32")
    lack = 1.0 - contain
    if mask is not None:
        rows = ops.expand_dims(ops.cast(mask, "float32"), -1)
        contain, lack = contain * rows, lack * rows

    def mean(weights):
        count = ops.sum(weights, axis=0)
        counted = ops.where(weights > 0, scores, ops.zeros_like(scores))
        total = ops.sum(counted, axis=0)
        return total / ops.maximum(count, 1.0), ops.cast(count > 0, "float32")

    (in_mean, has_in), (out_mean, has_out) = mean(contain), mean(lack)
    return in_mean, out_mean, has_in, has_out


class LabelTerm(Regularizer):
    """Base class of the two label terms: checks the shapes."""

    def __init__(self, weight=1.0, smoothing=1e-3, name=None):
        super().__init__(weight, name)
        if not (is_number(smoothing) and smoothing > 0):
            raise ValueError(
                "Expected `smoothing` to be a finite number above 0. "
                f"Received: smoothing={smoothing!r}"
            )
        self.smoothing = smoothing

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        if len(y_pred.shape) != 2 or y_true is None:
            raise ValueError(
                "Expected scores of shape (batch, labels) and the labels of "
                f"each row. Received: y_pred of shape {tuple(y_pred.shape)}, "
                f"y_true={'None' if y_true is None else tuple(y_true.shape)}."
                " Wrap a causal LM in a `LabelWordClassifier`."
            )
        return self.value(*label_means(y_true, y_pred, mask))

    @abc.abstractmethod
    def value(self, contain, lack, has_contain, has_lack):
        """The value of the regularizer, from what `label_means` returns."""

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}
