"""Cross-fitting: every row is predicted by a model that has not seen it."""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_debias.auditing.fields import fields_of
from keras_debias.data.duplicates import content_folds
from keras_debias.data.duplicates import content_keys

_MIN_PROBABILITY = 1e-12  # probability
MAX_WIDTH = 384  # of features; wider ones are reduced
FEW_COPIES = 0.05  # of the rows: fewer change nothing
LEAST_DISTINCT = 50  # with fewer rows, equal ones are not copies


class ProbeFeatures:
    """Standardizes features, and reduces wide ones by PCA.

    Args:
        features: float array of shape `(n, width)` to learn from.
    """

    def __init__(self, features):
        self.steps = make_pipeline(StandardScaler())
        if features.shape[1] > MAX_WIDTH and len(features) > MAX_WIDTH:
            self.steps = make_pipeline(
                StandardScaler(),
                PCA(MAX_WIDTH, svd_solver="randomized", random_state=0),
                StandardScaler(),
            )
        self.steps.fit(features)

    def __call__(self, features) -> np.ndarray:
        return self.steps.transform(features)


def has_shallow_features(split) -> bool:
    """Whether the inputs are texts or images, which a shallow model reads."""
    try:
        fields_of(split, None)
    except TypeError:
        return False
    return True


def check_folds(folds, y) -> None:
    """Raises unless every class has a row in each of `folds` folds."""
    smallest = np.unique(y, return_counts=True)[1].min()
    if smallest < folds:
        raise ValueError(
            f"Expected at least {folds} rows of each class. Received: a class "
            f"with {smallest}. Lower `folds`, or leave that class out."
        )


def keys_of_copies(split) -> np.ndarray | None:
    """One integer a row, equal for copies; `None` if there are few copies."""
    keys = content_keys(split.x)
    distinct = len(np.unique(keys))
    copies = len(keys) - distinct
    if distinct < LEAST_DISTINCT or copies <= FEW_COPIES * len(keys):
        return None
    return keys


def folds_of(split, folds, seed=0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indices, stratified by label: to fit on, and held out.

    Where many rows are copies of others, copies are in one fold: a model that
    has seen one of them knows the label of the rest.
    """
    keys = keys_of_copies(split)
    if keys is not None:
        first = np.unique(keys, return_index=True)[1]
        counts = np.bincount(split.y[first], minlength=split.y.max() + 1)
        if counts[np.unique(split.y)].min() >= folds:
            return content_folds(split, folds, seed)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros((len(split), 1)), split.y))


def fitted(matrix, y, C, weights=None) -> LogisticRegression:
    """A logistic regression; nearly converged is good enough."""
    model = LogisticRegression(C=C, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix, y, sample_weight=weights)


def out_of_fold(matrix, y, classes, C, folds, weights=None) -> np.ndarray:
    """Held-out probabilities of all rows, `(n, classes)`."""
    found = np.zeros((len(y), classes))
    for fit, held in folds:
        model = fitted(
            matrix[fit], y[fit], C, None if weights is None else weights[fit]
        )
        found[np.ix_(held, model.classes_)] = model.predict_proba(matrix[held])
    # With float32 features they do not sum to one exactly.
    return found / found.sum(axis=1, keepdims=True)


def choose_C(matrix, y, classes, grid, folds) -> tuple[float, np.ndarray]:
    """The `C` with the lowest held-out log loss, and its probabilities."""
    candidates = []
    for C in grid:
        probabilities = out_of_fold(matrix, y, classes, C, folds)
        chosen = probabilities[np.arange(len(y)), y]
        loss = -np.log(np.clip(chosen, _MIN_PROBABILITY, None)).mean()
        candidates.append((loss, C, probabilities))
    _, C, probabilities = min(candidates, key=lambda each: each[0])
    return C, probabilities
