"""`PartialInputProbe`: how well a part of the input predicts the label."""

import dataclasses
import warnings

import numpy as np
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.model_selection import StratifiedKFold
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_debias.utils.short_repr import ShortRepr

# With more distinct rows a fold, equal rows stay in one fold.
DIFFERENT = 10


@dataclasses.dataclass(frozen=True, repr=False)
class PartialInputProbe(ShortRepr):
    """The accuracy of a linear model that sees a part of the input only.

    It is cross-validated, with rows of equal inputs in one fold, and judged
    by its balanced accuracy: the mean over classes of the share of their
    rows that it gets right. So it is not lost in a class of 98 %.

    Args:
        name: string, what the model saw: `"hypothesis only"`.
        n: int, the number of rows predicted, each by a model that did not
            train on it.
        accuracy: float, the balanced accuracy.
        majority: float, the balanced accuracy of any constant answer: one
            divided by the number of classes.
        p_value: float: how probable so high a balanced accuracy is where the
            predictions go with the labels by chance alone (a normal
            approximation to all permutations of the labels), times the
            number of probes.
        significant: bool, whether `p_value` is below the level asked for.

    Example:

    >>> probe = PartialInputProbe("hypothesis only", 90, 0.6, 1 / 3, 1e-9, True)
    >>> round(probe.gain, 2)
    0.27
    """

    name: str
    n: int
    accuracy: float
    majority: float
    p_value: float
    significant: bool

    @property
    def gain(self) -> float:
        """Balanced accuracy above that of a constant answer."""
        return self.accuracy - self.majority


def run_probe(
    name, features, labels, *, folds, level, probes, seed
) -> PartialInputProbe:
    """Predicts labels from features by cross-validation.

    Args:
        name: string.
        features: sparse counts of tokens, or a dense array of measures, with
            `n` rows.
        labels: int array of shape `(n,)`.
        folds: int.
        level: float, the level of significance.
        probes: int, how many probes are run: p-values are multiplied by it.
        seed: int, of the folds.
    """
    scale = StandardScaler() if _dense(features) else TfidfTransformer()
    model = make_pipeline(
        scale,
        LogisticRegression(C=3.0, max_iter=100, class_weight="balanced"),
    )
    keys = _row_keys(features)
    if len(np.unique(keys)) < DIFFERENT * folds:
        # With few distinct rows, equal rows are not copies of each other.
        keys = None
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A probe that stops short of the optimum is a probe all the same,
        # and so is one whose folds are uneven for the sake of equal rows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        predicted = cross_val_predict(
            model, features, labels, cv=splitter, groups=keys
        )
    accuracy, z = _balanced_accuracy(predicted, labels, keys)
    p_value = min(1.0, probes * float(stats.norm.sf(z)))
    majority = 1 / len(np.unique(labels))
    return PartialInputProbe(
        name=name,
        n=len(labels),
        accuracy=accuracy,
        majority=float(majority),
        p_value=p_value,
        significant=bool(p_value < level),
    )


def _balanced_accuracy(predicted, labels, keys=None) -> tuple[float, float]:
    """Balanced accuracy, and its z-score against chance.

    The statistic is a sum over rows of the weight of their label where it is
    predicted; under permutations of the labels its mean and variance are
    those of a linear permutation statistic (Hoeffding, 1951). Where equal
    rows stand together, as `keys` says, their sums vary as a whole, and the
    larger of both variances counts.
    """
    n, classes = len(labels), int(labels.max()) + 1
    counts = np.bincount(labels, minlength=classes).astype("float64")
    said = np.bincount(predicted, minlength=classes).astype("float64")
    present = counts > 0
    weight = np.divide(
        1.0, counts * present.sum(), out=np.zeros(classes), where=present
    )
    found = weight[labels] * (predicted == labels)
    accuracy = float(found.sum())
    mean = float(weight @ (counts * said)) / n
    # Predicted classes down, labels across.
    table = np.diag(weight)
    centered = (
        table
        - (table @ counts / n)[:, None]
        - (said @ table / n)[None, :]
        + mean / n
    )
    variance = float(said @ centered**2 @ counts) / max(n - 1, 1)
    if keys is not None:
        surplus = found - weight[labels] * said[labels] / n
        sums = np.bincount(keys, weights=surplus)
        variance = max(variance, float(np.square(sums).sum()))
    return accuracy, (accuracy - mean) / np.sqrt(variance) if variance else 0.0


def _row_keys(features) -> np.ndarray:
    """One integer a row, equal where all features are."""
    if _dense(features):
        return np.unique(features, axis=0, return_inverse=True)[1].ravel()
    rows = features.tocsr()
    rows.sort_indices()
    parts = np.split(rows.indices, rows.indptr[1:-1])
    known = {}
    return np.array(
        [known.setdefault(part.tobytes(), len(known)) for part in parts]
    )


def _dense(features) -> bool:
    return isinstance(features, np.ndarray)
