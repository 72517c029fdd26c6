import dataclasses

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_debias.auditing.extraction import measured
from keras_debias.auditing.fields import fields_of
from keras_debias.data.duplicates import content_folds
from keras_debias.recipes.checks import check_class_labels
from keras_debias.utils.numbers import is_number
from keras_debias.utils.renamed import renamed


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class SimpleFeatures:
    """A bias-only model of the simple features of `kd.audit`, without words.

    Logistic regression on brightness, contrast, saturation and hue of
    images, of the whole and of the border; or on length, negation,
    punctuation, numbers and word overlap of texts.

    Attributes:
        C: float, above 0. The inverse of the strength of the regression's
            penalty, as in scikit-learn. Defaults to `1.0`.
        folds: int. Number of parts for predictions of the training rows: each
            row is predicted by a model that has not seen it. Defaults to `5`.

    Raises:
        ValueError: If an argument is out of range; in `out_of_fold`, if a
            class has fewer rows than there are folds.
        TypeError: In `out_of_fold`, if the inputs are neither texts nor
            images.

    Example:

    ```python
    method = kd.recipes.Reweighting(bias_only=kd.recipes.SimpleFeatures())
    ```
    """

    C: float = 1.0
    folds: int = 5

    def __post_init__(self):
        whole = is_number(self.folds) and int(self.folds) == self.folds
        if not whole or self.folds < 2:
            raise ValueError(
                "Expected `folds` to be an integer of at least 2. "
                f"Received: folds={self.folds!r}"
            )
        if not (is_number(self.C) and self.C > 0):
            raise ValueError(
                "Expected `C` to be a finite number above 0. "
                f"Received: C={self.C!r}"
            )

    def out_of_fold(self, train) -> np.ndarray:
        """Probabilities of all training rows, `(n, classes)`.

        Args:
            train: `kd.data.Split` with one class a row.

        Returns:
            A float array whose rows sum to one.

        Raises:
            ValueError: If a class has fewer rows than there are folds.
            TypeError: If the inputs are neither texts nor images.
        """
        check_class_labels(train, self)
        present, counts = np.unique(train.y, return_counts=True)
        if counts.min() < self.folds:
            raise ValueError(
                f"Expected at least {self.folds} rows of each class. "
                f"Received: a class with {counts.min()}. Lower `folds`."
            )
        names = train.label_names
        classes = int(train.y.max()) + 1 if names is None else len(names)
        found = np.zeros((len(train), classes))
        found[:, present] = cross_val_predict(
            make_pipeline(
                StandardScaler(),
                LogisticRegression(C=self.C, max_iter=1000),
            ),
            measured(train, fields_of(train, None)),
            train.y,
            cv=content_folds(train, self.folds),
            method="predict_proba",
        )
        return found

    def get_config(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**renamed(config, strength="C"))
