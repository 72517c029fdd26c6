import dataclasses
from typing import ClassVar

import keras
import numpy as np

from keras_debias.recipes import cross_fitting
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.clusters import Clusters
from keras_debias.recipes.frozen_probe import FrozenProbe
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.shallow_model import ShallowModel
from keras_debias.recipes.shallow_model import class_names
from keras_debias.recipes.shallow_model import num_classes

_MIN_PROBABILITY = 1e-4  # probability


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class CoTrainedClusters(GroupInference):
    """Groups by label x an attribute that clusters and two models agree on.

    1. Frozen features are clustered. Each cluster hints at the class that is
       most overrepresented in it.
    2. Two models learn to predict the *hint*, never the label: a linear probe
       on frozen features, and a shallow model on words and simple measures.
       Both are cross-fitted. This corrects rows that k-means puts on the wrong
       side of a boundary, and does not take words that belong to a class for a
       cue.
    3. Their standardized log-odds are summed, over both models and several
       numbers of clusters, so that no number has to be chosen.
    4. The cell of a row is the class with the highest sum, together with the
       quarter (see `bins`) that its margin over the next class falls into
       among the rows of that class.

    Attributes:
        n_clusters: tuple of ints, the numbers of clusters. Defaults to
            `(4, 8, 16)`.
        bins: int. Number of parts into which the margins in a class are
            divided. Defaults to `4`.
        seed: int, of the k-means starts. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of range; in `cells`, if there are
            fewer rows than clusters, or the network has no features that can
            be read.
        TypeError: If an argument is not an integer.

    Example:

    ```python
    method = kd.recipes.InversePropensitySampling(
        views=(kd.recipes.CoTrainedClusters(),)
    )
    ```

    Reference:
        Two views that teach each other: [Blum and Mitchell,
        1998](https://doi.org/10.1145/279943.279962); clusters as groups:
        GEORGE, [Sohoni et al., 2020](https://arxiv.org/abs/2011.12945). The
        combination is this library's.
    """

    attribute: ClassVar[str] = "attribute"

    n_clusters: tuple[int, ...] = (4, 8, 16)
    bins: int = 4
    seed: int = 0

    def __post_init__(self):
        sizes = self.n_clusters
        if isinstance(sizes, (int, np.integer)):
            sizes = (sizes,)
        object.__setattr__(self, "n_clusters", tuple(sizes))
        if not self.n_clusters:
            raise ValueError(
                "Expected `n_clusters` with at least one number. Received: "
                f"n_clusters={self.n_clusters}"
            )
        for size in self.n_clusters:
            Clusters(size, self.seed)  # checks both
        if isinstance(self.bins, bool) or not isinstance(
            self.bins, (int, np.integer)
        ):
            raise TypeError(
                f"Expected `bins` to be an integer. Received: {self.bins!r}"
            )
        if self.bins < 1:
            raise ValueError(
                f"Expected `bins` of at least 1. Received: bins={self.bins}"
            )

    def cells(self, trainer, train, split=None):
        check_class_labels(train, self)
        scores, others = self._scores(trainer, train, split)
        classes, margins = _top(scores)
        names = np.asarray(class_names(train), dtype=object)
        if split is None:
            rows, row_margins = classes, margins
        else:
            rows, row_margins = _top(others)
        part = np.zeros(len(rows), dtype=int)
        for code in np.unique(rows):
            inner = np.linspace(0, 1, self.bins + 1)[1:-1]
            own = margins[classes == code]
            if len(own) and len(inner):
                member = rows == code
                edges = np.quantile(own, inner)
                part[member] = np.digitize(row_margins[member], edges)
        return np.array(
            [f"{names[c]} {p + 1}" for c, p in zip(rows, part, strict=True)],
            dtype=object,
        )

    def _scores(self, trainer, train, split):
        """Summed log-odds of the hint of all rows, `(n, classes)`."""
        width = num_classes(train)
        scores = np.zeros((len(train), width))
        others = None if split is None else np.zeros((len(split), width))
        views = [FrozenProbe(trainer.frozen_features)]
        if cross_fitting.has_shallow_features(train):
            views.append(ShallowModel())
        for size in self.n_clusters:
            if size > len(train):
                continue
            cells = Clusters(size, self.seed).cells(trainer, train)
            hints = hinted_classes(cells, train)
            there, codes, counts = np.unique(
                hints, return_inverse=True, return_counts=True
            )
            if len(there) < 2 or counts.min() < FrozenProbe.folds:
                continue
            target = train._replace(
                y=codes.reshape(-1).astype("int32"),
                label_names=None,
                groups=None,
            )
            for view in views:
                odds = _log_odds(view.out_of_fold(target))
                scale = max(float(odds.std()), 1e-12)
                scores[:, there] += odds / scale
                if split is not None:
                    odds = _log_odds(view.predict_proba(target, split))
                    others[:, there] += odds / scale
        return scores, others


def hinted_classes(cells, train) -> np.ndarray:
    """The most overrepresented class of each row's cell, int `(n,)`."""
    cells = np.unique(cells, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((cells.max() + 1, num_classes(train)))
    np.add.at(counts, (cells, train.y), 1.0)
    frequency = counts.sum(axis=0) / counts.sum()
    share = counts / counts.sum(axis=1, keepdims=True)
    lift = np.divide(
        share, frequency, out=np.zeros_like(share), where=frequency > 0
    )
    return lift.argmax(axis=1)[cells]


def _log_odds(probabilities):
    clipped = np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.log(clipped) - np.log1p(-clipped)


def _top(scores):
    ordered = np.sort(scores, axis=1)
    return scores.argmax(axis=1), ordered[:, -1] - ordered[:, -2]
