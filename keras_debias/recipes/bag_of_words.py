import dataclasses
import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.pipeline import make_pipeline

from keras_debias.data.duplicates import content_folds
from keras_debias.recipes.checks import check_class_labels
from keras_debias.utils.numbers import is_number
from keras_debias.utils.renamed import renamed

# Words and runs of punctuation: a cue such as " !!" is not a word.
TOKENS = r"\w+|[^\w\s]+"


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class BagOfWords:
    """A bias-only model of which words and signs occur, without order.

    Logistic regression on the presence of tokens. For pairs of texts it reads
    only the last one (the hypothesis), so what it predicts well can be
    predicted without doing the task.

    Attributes:
        min_df: int. Least number of rows that a token must occur in. Defaults
            to `5`.
        C: float, above 0. The inverse of the strength of the regression's
            penalty, as in scikit-learn. Defaults to `0.1`.
        folds: int. Number of parts for predictions of the training rows: each
            row is predicted by a model that has not seen it. Defaults to `5`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    bias = kd.recipes.BagOfWords()
    probabilities = bias.out_of_fold(train)  # (rows, classes)
    criterion = kd.comparison.BiasedDisagreement(bias.predict(train, dev))
    ```

    Reference:
        [Clark et al., 2019](https://arxiv.org/abs/1909.03683) use a
        hypothesis-only model on MultiNLI; theirs is neural.
    """

    min_df: int = 5
    C: float = 0.1
    folds: int = 5

    def __post_init__(self):
        for name, least in (("min_df", 1), ("folds", 2)):
            value = getattr(self, name)
            if not is_number(value) or int(value) != value or value < least:
                raise ValueError(
                    f"Expected `{name}` to be an integer of at least {least}. "
                    f"Received: {name}={value}"
                )
        if not (is_number(self.C) and self.C > 0):
            raise ValueError(
                "Expected `C` to be a finite number above 0. "
                f"Received: C={self.C!r}"
            )

    def out_of_fold(self, train) -> np.ndarray:
        """Probabilities of all training rows, `(n, classes)`.

        Args:
            train: `kd.data.Split` of texts with one class a row.

        Returns:
            A float array whose rows sum to one.

        Raises:
            ValueError: If a class has fewer rows than there are folds, or no
                token occurs in `min_df` rows.
            TypeError: If the inputs are not texts.

        Example:

        >>> texts = [f"bad {i}" for i in range(10)]
        >>> texts += [f"good {i}" for i in range(10)]
        >>> train = Split(texts, ["no"] * 10 + ["yes"] * 10)
        >>> found = BagOfWords().out_of_fold(train)
        >>> found.shape, float((found.argmax(axis=1) == train.y).mean())
        ((20, 2), 1.0)
        """
        check_class_labels(train, self)
        texts = _last_texts(train)
        classes = _num_classes(train)
        found = np.zeros((len(train), classes), dtype="float64")
        smallest = np.bincount(train.y)[np.unique(train.y)].min()
        if smallest < self.folds:
            raise ValueError(
                f"Expected at least {self.folds} rows of each class. "
                f"Received: a class with {smallest}. Lower `folds`."
            )
        for fit, held in content_folds(train, self.folds):
            if np.ptp(train.y[fit]) == 0:
                # All rows of the other class have one text, which is held out.
                found[held, train.y[fit][0]] = 1.0
                continue
            model = self._fitted(texts[fit], train.y[fit])
            columns = model[-1].classes_
            found[np.ix_(held, columns)] = model.predict_proba(texts[held])
        return found / found.sum(-1, keepdims=True)

    def predict(self, train, split) -> np.ndarray:
        """Predicted label names of other rows; without names, their classes.

        Args:
            train: `kd.data.Split` to learn from.
            split: `kd.data.Split` to predict; its labels are not used.

        Returns:
            An array of shape `(n,)`.
        """
        check_class_labels(train, self)
        model = self._fitted(_last_texts(train), train.y)
        classes = model.predict(_last_texts(split))
        if train.label_names is None:
            return classes
        return np.asarray(train.label_names, dtype=object)[classes]

    def _fitted(self, texts, y) -> Pipeline:
        model = make_pipeline(
            CountVectorizer(
                token_pattern=TOKENS, binary=True, min_df=self.min_df
            ),
            LogisticRegression(C=self.C, max_iter=200),
        )
        with warnings.catch_warnings():
            # Nearly converged is good enough for a bias.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                return model.fit(texts, y)
            except ValueError as error:
                raise ValueError(
                    f"Expected some token in at least {self.min_df} rows. "
                    f"Received: {len(texts)} texts without"
                ) from error

    def get_config(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**renamed(config, least="min_df", strength="C"))


def _num_classes(train) -> int:
    if train.label_names is not None:
        return len(train.label_names)
    return int(train.y.max()) + 1


def _last_texts(split) -> np.ndarray:
    """The texts (of pairs, the last ones), or raises."""
    x = split.x[-1] if isinstance(split.x, tuple) else split.x
    if not isinstance(x, np.ndarray) or x.dtype != object:
        raise TypeError(
            "Expected texts, or pairs of texts, for `BagOfWords`. Received: "
            f"{split!r}"
            ". For images there is `SimpleFeatures`."
        )
    return x
