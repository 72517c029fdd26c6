"""`PartialInputProbe`: what a part of the input tells about the label."""

import dataclasses
import warnings

import numpy as np
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclasses.dataclass(frozen=True)
class PartialInputProbe:
    """Cross-validated accuracy of a linear model that sees a part only.

    Args:
        name: string, what the model saw: `"hypothesis only"`.
        n: int, the number of rows predicted, each by a model that did not
            train on it.
        accuracy: float.
        majority: float, the share of the most frequent label.
        p_value: float: how probable so many hits are where every row is hit
            with the probability `majority`, by the binomial distribution,
            times the number of probes.
        significant: bool, whether `p_value` is below the level asked for.
    """

    name: str
    n: int
    accuracy: float
    majority: float
    p_value: float
    significant: bool

    @property
    def gain(self) -> float:
        """Accuracy above that of the most frequent label."""
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
    model = make_pipeline(scale, LogisticRegression(C=3.0, max_iter=100))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A probe that stops short of the optimum is a probe all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted = cross_val_predict(model, features, labels, cv=splitter)
    hits = int((predicted == labels).sum())
    majority = np.bincount(labels).max() / len(labels)
    p_value = min(
        1.0, probes * float(stats.binom.sf(hits - 1, len(labels), majority))
    )
    return PartialInputProbe(
        name=name,
        n=len(labels),
        accuracy=hits / len(labels),
        majority=float(majority),
        p_value=p_value,
        significant=bool(p_value < level),
    )


def _dense(features) -> bool:
    return isinstance(features, np.ndarray)
