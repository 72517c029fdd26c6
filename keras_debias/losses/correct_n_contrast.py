import keras
import numpy as np
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_count
from keras_debias.losses.utils import check_positive
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class CorrectNContrast(TaskObjective):
    """Pulls features of a class together across a biased model's guesses.

    For a network that returns features and logits side by side. With the
    features `z` of length one, a row's positives are the rows of the batch of
    its class of which the biased model guessed otherwise, its negatives those
    of other classes with the same guess:

    ```
    weight * mean over positives p of -log(e_p / (sum of e_j over both))
    + (1 - weight) * loss,    e_j = exp(z z_j / T)
    ```

    Rows without positives or negatives have no first part; it is scaled so
    that its mean over the batch is that of the rows that have.

    Args:
        guesses: int array of shape `(n,)`, the class that a biased model
            gives each row of the training data.
        width: int. The number of features, which come before the logits.
        weight: float in [0, 1]. Defaults to `0.75`.
        temperature: float above 0. Defaults to `0.1`.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> objective = CorrectNContrast([0, 0, 1, 1], width=2)
    >>> objective.num_rows, objective.weight
    (4, 0.75)

    Reference:
        [Zhang et al., 2022](https://arxiv.org/abs/2203.01517). They draw
        positives and negatives for each anchor; here they are those of its
        batch. See `recipes.CNC`.
    """

    needs_index = True

    def __init__(self, guesses, width, weight=0.75, temperature=0.1, name=None):
        check_count(width, "width", 1)
        check_positive(temperature, "temperature")
        if not (is_number(weight) and 0 <= weight <= 1):
            raise ValueError(
                f"Expected `weight` in [0, 1]. Received: weight={weight!r}"
            )
        guesses = np.asarray(guesses)
        if guesses.ndim != 1 or guesses.dtype.kind not in "iu":
            raise ValueError(
                "Expected `guesses` to be the class of each training row, a "
                f"1-D array of integers. Received: {guesses.dtype} of shape "
                f"{guesses.shape}"
            )
        super().__init__(name=name)
        self.width = width
        self.weight = weight
        self.temperature = temperature
        self.guesses = self.add_weight(
            name="guesses",
            shape=guesses.shape,
            dtype="int32",
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                guesses, dtype=dtype
            ),
            trainable=False,
        )

    @property
    def num_rows(self) -> int:
        """How many training rows it knows."""
        return self.guesses.shape[0]

    def call(self, y_true, y_pred, losses, groups, index):
        values = losses(y_true, y_pred[:, self.width :])
        z = ops.cast(y_pred[:, : self.width], "float32")
        z = ops.normalize(z, axis=-1)
        similarity = ops.matmul(z, ops.transpose(z)) / self.temperature
        same_class = _pairs(ops.cast(ops.reshape(y_true, (-1,)), "int32"))
        same_guess = _pairs(ops.take(self.guesses, index))
        positive = ops.logical_and(same_class, ops.logical_not(same_guess))
        negative = ops.logical_and(ops.logical_not(same_class), same_guess)
        others = ops.logical_or(positive, negative)
        positive = ops.cast(positive, "float32")
        total = ops.where(others, similarity, -1e30)
        total = ops.logsumexp(total, axis=-1, keepdims=True)
        log_share = similarity - total
        count = ops.sum(positive, axis=-1)
        negatives = ops.sum(ops.cast(negative, "float32"), axis=-1)
        is_anchor = ops.cast(ops.minimum(count, negatives) > 0, "float32")
        pull = -ops.sum(log_share * positive, axis=-1)
        pull = is_anchor * pull / ops.maximum(count, 1.0)
        rows = ops.cast(ops.shape(count)[0], "float32")
        scale = rows / ops.maximum(ops.sum(is_anchor), 1.0)
        pull = ops.cast(pull * scale, values.dtype)
        return self.weight * pull + (1 - self.weight) * values

    def get_config(self):
        return {
            "guesses": ops.convert_to_numpy(self.guesses).tolist(),
            "width": self.width,
            "weight": self.weight,
            "temperature": self.temperature,
            "name": self.name,
        }


def _pairs(values):
    """Which rows agree with which, a square of truth values."""
    return ops.equal(values[:, None], values[None, :])
