import abc
import math
import numbers
import re
import warnings

import keras

from keras_debias.utils.configurable import Configurable


class Regularizer(Configurable, abc.ABC):
    """Base class of all regularizers: a scalar function of a model's outputs.

    A subclass overrides one method, `call`, in `keras.ops`. In a training step
    its value, times the weight at that step, is added to the loss; its
    gradient is added to the update after the projections. The logs show the
    value without the weight, under the regularizer's name.

    Args:
        weight: float of at least 0, or a
            `keras.optimizers.schedules.LearningRateSchedule` of the number
            of updates so far.
        name: string. Name in the logs. Defaults to `None`: the class name in
            snake_case.

    Raises:
        ValueError: If `weight` is neither.

    Example:

    ```python
    class SmallLogits(kd.regularizers.Regularizer):
        def call(self, y_true, y_pred, teacher_pred=None, mask=None):
            return ops.mean(ops.square(y_pred))
    ```
    """

    needs_teacher = False
    # With `needs_teacher`: another network, or a cache of features.
    teacher = None
    cache = None
    # Whether `call` may get the logits of the rows of one process alone; it
    # then sums over all of them by `losses.row_parts`.
    sums_rows = False

    def __init__(self, weight, name: str | None = None):
        is_schedule = isinstance(
            weight, keras.optimizers.schedules.LearningRateSchedule
        )
        is_number = isinstance(weight, numbers.Real) and not isinstance(
            weight, bool
        )
        if not is_schedule and not (
            is_number and math.isfinite(weight) and weight >= 0
        ):
            raise ValueError(
                "Expected `weight` to be a finite number of at least 0, or a "
                f"learning-rate schedule. Received: weight={weight!r}"
            )
        if name is None:
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__)
            name = name.lower()
        self.weight = weight
        self.name = name
        self._warned = False

    @property
    def terms(self) -> list:
        """The terms that are logged separately: itself, or its parts."""
        return [self]

    @abc.abstractmethod
    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        """The value of the regularizer, before its weight.

        Args:
            y_true: the targets of the batch, as the compiled loss gets them.
            y_pred: logits of shape `(batch, classes)` or `(batch, tokens,
                vocabulary)`.
            teacher_pred: logits of the teacher, of the same shape, where
                `needs_teacher` is set. Defaults to `None`.
            mask: bool tensor of shape `(batch,)` or `(batch, tokens)`: `False`
                for what does not count, such as padding. Defaults to `None`:
                everything counts.

        Returns:
            A float32 scalar; NaN if the mask leaves nothing to count.
        """

    def weight_at(self, step):
        """The weight after some updates.

        Args:
            step: int or scalar tensor. The number of updates so far.

        Returns:
            A float; of a schedule, what it returns.
        """
        return self.weight(step) if callable(self.weight) else self.weight

    def idle_reason(self, shape: tuple) -> str | None:
        """Why the term cannot act on outputs of a shape, or `None`.

        Args:
            shape: tuple of ints, and `None` for sizes that are not known.

        Returns:
            A string, or `None` if it can act.
        """
        return None

    def warn_if_idle(self, shape: tuple) -> None:
        """Warns, once for each regularizer, of a term that cannot act.

        Args:
            shape: as for `idle_reason`.
        """
        reason = None if self._warned else self.idle_reason(shape)
        if reason is not None:
            self._warned = True
            warnings.warn(
                f"The regularizer '{self.name}' cannot act: {reason}",
                stacklevel=2,
            )

    def get_config(self) -> dict:
        weight = self.weight
        if callable(weight):
            weight = keras.saving.serialize_keras_object(weight)
        return {"weight": weight, "name": self.name}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["weight"], dict):
            config["weight"] = keras.saving.deserialize_keras_object(
                config["weight"]
            )
        return cls(**config)
