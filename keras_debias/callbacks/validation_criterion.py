import re

import keras

from keras_debias.comparison.criterion import Criterion
from keras_debias.data.split import Split
from keras_debias.evaluation.evaluate import evaluate


class ValidationCriterion(keras.callbacks.Callback):
    """Logs a criterion on validation data after each epoch.

    Put it before `keras.callbacks.EarlyStopping`, which can then stop by a
    criterion that needs no group labels.

    Args:
        validation: `kd.data.Split` with labels.
        criterion: a `kd.comparison.Criterion`, such as `WorstCell`.
        name: string, the key in the logs. Defaults to `None`: "val_" and the
            name of the criterion, for instance `"val_worst_cell"`.
        batch_size: int, for predictions. Defaults to `None`: Keras' own.

    Raises:
        TypeError: If an argument has another type.

    Example:

    ```python
    model.fit(
        train,
        epochs=10,
        callbacks=[
            kd.callbacks.ValidationCriterion(dev, criterion),
            keras.callbacks.EarlyStopping("val_worst_cell", mode="max"),
        ],
    )
    ```
    """

    def __init__(
        self,
        validation: Split,
        criterion: Criterion,
        name: str | None = None,
        batch_size: int | None = None,
    ):
        super().__init__()
        if not isinstance(validation, Split) or validation.y is None:
            raise TypeError(
                "Expected `validation` to be a `kd.data.Split` with labels. "
                f"Received: validation={validation!r}"
            )
        if not isinstance(criterion, Criterion):
            raise TypeError(
                "Expected `criterion` to be a `kd.comparison.Criterion`. "
                f"Received: criterion={criterion!r}"
            )
        self.validation = validation
        self.criterion = criterion
        self.name = (
            name
            or "val_" + re.sub("(?<!^)(?=[A-Z])", "_", criterion.name).lower()
        )
        self.batch_size = batch_size

    def on_epoch_end(self, epoch, logs=None):
        scores = evaluate(
            self.model,
            {"validation": self.validation},
            metrics=self.criterion.metrics,
            batch_size=self.batch_size,
            bootstrap=0,
        )
        score = self.criterion.judge(scores, self.validation)
        if logs is not None:
            logs[self.name] = score
