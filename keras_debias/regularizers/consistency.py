import keras
from keras import ops

from keras_debias.losses.row_parts import total
from keras_debias.regularizers.chunked_logits import check_outputs
from keras_debias.regularizers.chunked_logits import map_rows
from keras_debias.regularizers.chunked_logits import row_weights
from keras_debias.regularizers.chunked_logits import sum_rows
from keras_debias.regularizers.chunked_logits import with_gradient
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.regularizers.teacher_cache import TeacherCache
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class Consistency(Regularizer):
    """Keeps the outputs near those of the pretrained model.

    ```
    T^2 mean over rows of KL(softmax(teacher / T) || softmax(student / T))
    ```

    A row is a sample, or a token that counts. The teacher is the same model
    with its adapters switched off and the head as it is now, in inference
    mode and without a gradient: no second copy of the weights.

    Args:
        weight: float of at least 0, or a learning-rate schedule. Defaults to
            `0.15`.
        temperature: float above 0. Softens both distributions. Defaults to
            `2.0`.
        teacher: `keras.Model` that takes the same inputs and returns logits
            of the same shape, for a model without adapters. It is saved with
            the `DebiasedModel`. Defaults to `None`.
        cache: a `TeacherCache`, for a classifier whose encoder is frozen
            except for its adapters: the teacher's features are computed once
            for each training set. Defaults to `None`: one forward pass of the
            teacher in each step.
        name: string. Name in the logs. Defaults to `None`: `"consistency"`.

    Raises:
        ValueError: If an argument is out of range, both `teacher` and `cache`
            are given, or the teacher's outputs have another shape than the
            student's.

    Example:

    >>> student, teacher = np.eye(3, dtype="float32"), np.ones((3, 3))
    >>> float(Consistency().call(None, student, teacher)) > 0
    True

    Reference:
        BA-LoRA, equations (4) and (9). The circulating script compares
        normalized logits by their mean squared error instead. The paper
        states the temperature, 2, for generation only.
    """

    needs_teacher = True
    sums_rows = True

    def __init__(
        self,
        weight=0.15,
        temperature=2.0,
        teacher=None,
        cache=None,
        name=None,
    ):
        super().__init__(weight, name)
        if not (is_number(temperature) and temperature > 0):
            raise ValueError(
                "Expected `temperature` to be a finite number above 0. "
                f"Received: temperature={temperature!r}"
            )
        if teacher is not None and not isinstance(teacher, keras.Model):
            raise ValueError(
                "Expected `teacher` to be a `keras.Model`, or `None` for the "
                "model itself without its adapters. "
                f"Received: teacher={teacher!r}"
            )
        if cache is not None and not isinstance(cache, TeacherCache):
            raise ValueError(
                "Expected `cache` to be a `TeacherCache`, or `None`. "
                f"Received: cache={cache!r}"
            )
        if cache is not None and teacher is not None:
            raise ValueError(
                "Expected `cache` or `teacher`, not both: a cache is for a "
                "model that is its own teacher. Received: both"
            )
        self.temperature = temperature
        self.teacher = teacher
        self.cache = cache

    def call(self, y_true, y_pred, teacher_pred=None, mask=None):
        if teacher_pred is None:
            raise ValueError(
                "Expected `teacher_pred`, the logits of the teacher. "
                "Received: teacher_pred=None"
            )
        self.warn_if_idle(check_outputs(y_pred, mask, teacher_pred))
        weights = row_weights(y_pred, mask)
        count = total(ops.sum(weights))
        t = self.temperature

        def divergence(student, teacher, weight):
            student = ops.log_softmax(ops.cast(student, "float32") / t)
            teacher = ops.log_softmax(ops.cast(teacher, "float32") / t)
            p = ops.exp(teacher)
            # A class of probability zero must not make the loss NaN.
            each = ops.where(p == 0, 0.0, p * (teacher - student))
            return ops.sum(weight * ops.sum(each, -1, keepdims=True))

        def evaluate(outputs):
            value = sum_rows(divergence, outputs, teacher_pred, weights)
            value = total(value)

            def gradient(upstream):
                scale = upstream * t / count

                def rows(student, teacher, weight):
                    student = ops.softmax(ops.cast(student, "float32") / t)
                    teacher = ops.softmax(ops.cast(teacher, "float32") / t)
                    change = scale * weight * (student - teacher)
                    return ops.cast(change, outputs.dtype)

                return map_rows(rows, outputs, teacher_pred, weights)

            return t * t * value / count, gradient

        return with_gradient(evaluate, y_pred)

    def idle_reason(self, shape):
        if shape[-1] == 1:
            return (
                "the model has one output, and the softmax of one number is "
                f"1. Received: outputs of shape {shape}"
            )
        return None

    def get_config(self):
        teacher = self.teacher
        if teacher is not None:
            teacher = keras.saving.serialize_keras_object(teacher)
        cache = self.cache
        if cache is not None:
            cache = keras.saving.serialize_keras_object(cache)
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "teacher": teacher,
            "cache": cache,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("teacher", "cache"):
            if config.get(name) is not None:
                config[name] = keras.saving.deserialize_keras_object(
                    config[name]
                )
        return super().from_config(config)
