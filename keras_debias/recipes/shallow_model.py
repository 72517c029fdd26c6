import dataclasses

import keras
import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import StandardScaler

from keras_debias.auditing import text_measures
from keras_debias.auditing.extraction import measured
from keras_debias.auditing.fields import field_values
from keras_debias.auditing.fields import fields_of
from keras_debias.data.checks import is_text
from keras_debias.recipes import cross_fitting
from keras_debias.recipes.checks import check_class_labels

GRID = (0.01, 0.03, 0.1, 0.3, 1.0)


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class ShallowModel:
    """A bias-only model of which words occur, and of simple measures.

    Logistic regression on the presence of tokens in all texts of a row,
    together with the simple measures of `kd.audit` (length, negation,
    punctuation, word overlap; brightness, contrast and hue of images). It
    knows no word order and no meaning, so what it predicts well can be
    predicted without doing the task. The strength of the regularization is
    chosen by held-out log loss, which also calibrates the probabilities.

    Attributes:
        min_df: int. Least number of rows that a token must occur in. Defaults
            to `5`.
        folds: int. Number of parts for the predictions of the training rows:
            each row is predicted by a model that has not seen it. Defaults to
            `5`.

    Raises:
        ValueError: If an argument is out of range; in `out_of_fold`, if a
            class has fewer rows than there are folds.
        TypeError: In `out_of_fold`, if the inputs are neither texts nor
            images.

    Example:

    ```python
    bias_only = kd.recipes.ShallowModel()
    probabilities = bias_only.out_of_fold(train)  # (rows, classes)
    method = kd.recipes.Reweighting(bias_only=bias_only)
    ```

    Reference:
        [Clark et al., 2019](https://arxiv.org/abs/1909.03683) use a
        hypothesis-only model on MultiNLI and word overlap on HANS; here both
        kinds of features are in one cross-fitted model.
    """

    min_df: int = 5
    folds: int = 5

    def __post_init__(self):
        for name, least in (("min_df", 1), ("folds", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(
                value, (int, np.integer)
            ):
                raise TypeError(
                    f"Expected `{name}` to be an integer. Received: "
                    f"{name}={value!r}"
                )
            if value < least:
                raise ValueError(
                    f"Expected `{name}` of at least {least}. Received: "
                    f"{name}={value}"
                )

    def out_of_fold(self, train) -> np.ndarray:
        """Held-out probabilities of the training rows, `(n, classes)`.

        Args:
            train: `kd.data.Split` of texts or images with one class a row.

        Returns:
            A float array of shape `(n, classes)`.

        Raises:
            ValueError: If a class has fewer rows than there are folds.

        Example:

        >>> texts = [f"bad {i}" for i in range(10)]
        >>> texts += [f"good {i}" for i in range(10)]
        >>> train = Split(texts, ["no"] * 10 + ["yes"] * 10)
        >>> found = ShallowModel().out_of_fold(train)
        >>> found.shape, float((found.argmax(axis=1) == train.y).mean())
        ((20, 2), 1.0)
        """
        check_class_labels(train, self)
        cross_fitting.check_folds(self.folds, train.y)
        matrix = self._features(train)(train)
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
        features = self._features(train)
        matrix = features(train)
        folds = cross_fitting.folds_of(train, self.folds)
        classes = num_classes(train)
        C, _ = cross_fitting.choose_C(matrix, train.y, classes, GRID, folds)
        model = cross_fitting.fitted(matrix, train.y, C)
        found = np.zeros((len(split), classes))
        found[:, model.classes_] = model.predict_proba(features(split))
        return found

    def predict(self, train, split) -> np.ndarray:
        """Predicted label names of other rows; without names, their classes.

        Args:
            train: `kd.data.Split` to learn from.
            split: `kd.data.Split` to predict; its labels are not used.

        Returns:
            An array of shape `(n,)`.
        """
        classes = self.predict_proba(train, split).argmax(axis=1)
        if train.label_names is None:
            return classes
        return np.asarray(train.label_names, dtype=object)[classes]

    def _features(self, train):
        """A function of a split to a sparse matrix, fitted on `train`."""
        fields = fields_of(train, None)
        scaler = StandardScaler().fit(measured(train, fields))
        vectorizers = {}
        for column in fields:
            values = field_values(train, column)
            if not is_text(values):
                continue
            vectorizer = CountVectorizer(
                analyzer=_analyze, binary=True, min_df=self.min_df
            )
            try:
                vectorizers[column] = vectorizer.fit(values)
            except ValueError:
                continue  # no token is frequent enough

        def features(split):
            blocks = [
                vectorizer.transform(field_values(split, column))
                for column, vectorizer in vectorizers.items()
            ]
            # Images have no other block, and a lone array is not accepted.
            simple = sparse.csr_matrix(
                scaler.transform(measured(split, fields))
            )
            return sparse.hstack([*blocks, simple], format="csr")

        return features

    def get_config(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def num_classes(train) -> int:
    """The number of classes: by name, or by the largest label."""
    if train.label_names is not None:
        return len(train.label_names)
    return int(train.y.max()) + 1


def _analyze(text):
    return text_measures.tokens([text])[0]


def class_names(train) -> tuple[str, ...]:
    """The name of each class, `num_classes(train)` strings."""
    if train.label_names is not None:
        return tuple(train.label_names)
    return tuple(map(str, range(num_classes(train))))
