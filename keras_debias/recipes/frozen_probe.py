import dataclasses
from collections.abc import Callable

import numpy as np

from keras_debias.recipes import cross_fitting
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.shallow_model import num_classes

GRID = (0.0003, 0.003, 0.03, 0.3)


@dataclasses.dataclass(frozen=True)
class FrozenProbe:
    """A linear probe on frozen features, cross-fitted.

    Logistic regression on standardized features of a pretrained encoder (their
    first 384 principal components where there are more). It learns in seconds
    what fine-tuning finds first. With its held-out predictions,
    `kd.audit(train, predictions=...)` finds the features of the data that
    mislead a model.

    Attributes:
        features: function of a `Split` to a float array of shape `(n, width)`,
            usually `kd.features.FrozenFeatures(model)`.
        folds: int. Number of parts; each training row is predicted by a probe
            that has not seen it. Defaults to `5`.

    Raises:
        TypeError: If `features` is not callable.
        ValueError: If `folds` is below 2; in `out_of_fold`, if a class has
            fewer rows than there are folds.

    Example:

    ```python
    probe = kd.recipes.FrozenProbe(kd.features.FrozenFeatures(classifier))
    report = kd.audit(train, predictions=probe.out_of_fold(train))
    ```

    Reference:
        [Alain and Bengio, 2016](https://arxiv.org/abs/1610.01644).
    """

    features: Callable
    folds: int = 5

    def __post_init__(self):
        if not callable(self.features):
            raise TypeError(
                "Expected `features` to be a function of a split, such as "
                "`kd.features.FrozenFeatures(model)`. Received: "
                f"features={self.features!r}"
            )
        if isinstance(self.folds, bool) or not isinstance(
            self.folds, (int, np.integer)
        ):
            raise TypeError(
                f"Expected `folds` to be an integer. Received: {self.folds!r}"
            )
        if self.folds < 2:
            raise ValueError(
                f"Expected `folds` of at least 2. Received: folds={self.folds}"
            )

    def out_of_fold(self, train) -> np.ndarray:
        """Held-out probabilities of the training rows, `(n, classes)`.

        Args:
            train: `kd.data.Split` with one class a row.

        Returns:
            A float array of shape `(n, classes)`.

        Raises:
            ValueError: If a class has fewer rows than there are folds.

        Example:

        >>> train = Split(np.repeat(np.eye(2), 10, axis=0), [0] * 10 + [1] * 10)
        >>> found = FrozenProbe(lambda split: split.x).out_of_fold(train)
        >>> found.argmax(axis=1).tolist() == train.y.tolist()
        True
        """
        check_class_labels(train, self)
        cross_fitting.check_folds(self.folds, train.y)
        found = self.features(train)
        matrix = cross_fitting.ProbeFeatures(found)(found)
        folds = cross_fitting.folds_of(train, self.folds)
        _, found = cross_fitting.choose_C(
            matrix, train.y, num_classes(train), GRID, folds
        )
        return found

    def predict_proba(self, train, split) -> np.ndarray:
        """Probabilities of other rows, `(n, classes)`.

        Args:
            train: `kd.data.Split` to learn from.
            split: `kd.data.Split` to predict; its labels are not used.

        Returns:
            A float array of shape `(n, classes)`.
        """
        check_class_labels(train, self)
        cross_fitting.check_folds(self.folds, train.y)
        found = self.features(train)
        transform = cross_fitting.ProbeFeatures(found)
        matrix = transform(found)
        folds = cross_fitting.folds_of(train, self.folds)
        classes = num_classes(train)
        C, _ = cross_fitting.choose_C(matrix, train.y, classes, GRID, folds)
        model = cross_fitting.fitted(matrix, train.y, C)
        found = np.zeros((len(split), classes))
        found[:, model.classes_] = model.predict_proba(
            transform(self.features(split))
        )
        return found
