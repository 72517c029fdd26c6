import keras
from keras import ops

from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_count
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class FeatureSwap(TaskObjective):
    """Tells apart what a label and what a shortcut makes of the features.

    For a network that returns the features of two encoders side by side,
    `[z_i, z_b]`. Two classifiers read both: that of the label learns through
    `z_i` alone, that of the bias through `z_b` alone. With `L_i` and `L_b`
    their losses, a row's value is

    ```
    W L_i + bias_weight * GCE(L_b),    W = L_b / (L_b + L_i)
    ```

    and, after `begin` updates, `swap_weight` times the same with the bias
    features, and for `L_b` the label, of another row of the batch: the
    shortcut then says nothing of the label. No gradient flows through `W`.

    Args:
        width: int. The number of features of each encoder.
        num_classes: int. Defaults to `2`.
        q: float in (0, 1]. Degree of the amplification. Defaults to `0.7`.
        bias_weight: float. Weight of the bias classifier. Defaults to `1.0`.
        swap_weight: float. Weight of the swapped part. Defaults to `1.0`.
        begin: int. Updates before the first swap. Defaults to `0`.
        name: string. Defaults to `None`: made from the class name.

    Attributes:
        intrinsic, biased: `keras.layers.Dense`, the two classifiers.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> objective = FeatureSwap(width=3, num_classes=2)
    >>> [tuple(v.shape) for v in objective.biased.weights]
    [(6, 2), (2,)]

    Reference:
        [Lee et al., 2021](https://arxiv.org/abs/2107.01372), equations (1)
        to (4). They smooth the losses of `W` over epochs; here they are those
        of the step, without the swap. The other row is the one before: rows
        are in random order.
    """

    def __init__(
        self,
        width,
        num_classes=2,
        q=0.7,
        bias_weight=1.0,
        swap_weight=1.0,
        begin=0,
        name=None,
    ):
        check_count(width, "width", 1)
        check_count(num_classes, "num_classes", 2)
        check_count(begin, "begin", 0)
        amplified = GeneralizedCrossEntropy(q)
        for key, value in (("bias", bias_weight), ("swap", swap_weight)):
            if not (is_number(value) and value >= 0):
                raise ValueError(
                    f"Expected `{key}_weight` to be a finite number of at "
                    f"least 0. Received: {key}_weight={value}"
                )
        super().__init__(name=name)
        self.width = width
        self.num_classes = num_classes
        self.amplified = amplified
        self.bias_weight = bias_weight
        self.swap_weight = swap_weight
        self.begin = begin
        self.intrinsic = keras.layers.Dense(num_classes, name="intrinsic")
        self.biased = keras.layers.Dense(num_classes, name="biased")
        for classifier in (self.intrinsic, self.biased):
            classifier.build((None, 2 * width))
        self.seen = self.add_weight(
            name="seen",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    def call(self, y_true, y_pred, losses, groups, index):
        own, bias = y_pred[:, : self.width], y_pred[:, self.width :]
        plain, weights = self._values(y_true, own, bias, y_true, losses)
        swapped, _ = self._values(
            y_true,
            own,
            ops.roll(bias, 1, axis=0),
            ops.roll(y_true, 1, axis=0),
            losses,
            weights,
        )
        share = ops.cast(self.seen >= self.begin, plain.dtype)
        self.seen.assign_add(1)
        return plain + self.swap_weight * share * swapped

    def _values(self, y_true, own, bias, y_bias, losses, weights=None):
        """The values of the rows, and the weights of the label's part."""
        fixed_own, fixed_bias = map(ops.stop_gradient, (own, bias))
        features = ops.concatenate([own, fixed_bias], axis=-1)
        right = losses(y_true, self.intrinsic(features))
        features = ops.concatenate([fixed_own, bias], axis=-1)
        easy = losses(y_bias, self.biased(features))
        if weights is None:
            a, b = map(ops.stop_gradient, (easy, right))
            weights = a / ops.maximum(a + b, 1e-8)
        return weights * right + self.bias_weight * self.amplified(
            easy
        ), weights

    def get_config(self):
        return {
            "width": self.width,
            "num_classes": self.num_classes,
            "q": self.amplified.q,
            "bias_weight": self.bias_weight,
            "swap_weight": self.swap_weight,
            "begin": self.begin,
            "name": self.name,
        }
