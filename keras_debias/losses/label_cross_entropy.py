import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_debias")
class LabelCrossEntropy(keras.losses.Loss):
    """Cross entropy for rows with any number of labels.

    The mean over a row's labels of `logsumexp(y_pred) - y_pred[label]`, for
    multi-hot `y_true`. A row without labels has a loss of zero.

    Args:
        reduction: as for `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: string. Defaults to `"label_cross_entropy"`.

    Example:

    >>> loss = LabelCrossEntropy()
    >>> round(float(loss([[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]])), 4)
    1.0986
    """

    def __init__(
        self, reduction="sum_over_batch_size", name="label_cross_entropy"
    ):
        super().__init__(name=name, reduction=reduction)

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        y_true = ops.cast(y_true, "float32")
        total = ops.sum(y_true, axis=-1)
        each = ops.sum(y_true * ops.log_softmax(y_pred, axis=-1), axis=-1)
        return -each / ops.maximum(total, 1.0)

    def get_config(self):
        return {"reduction": self.reduction, "name": self.name}
