import dataclasses
from typing import ClassVar

import keras
import numpy as np
from sklearn.cluster import KMeans
from sklearn.cluster import MiniBatchKMeans

from keras_debias.recipes import cross_fitting
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.shallow_model import num_classes

# From here on clusters are fitted on batches: memory stays bounded.
MANY_ROWS = 50_000
CANDIDATES = (4, 8, 16)
FOLDS = 5


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class Clusters(GroupInference):
    """Groups by label x cluster of frozen features.

    K-means on the features that the pretrained encoder computes for each row.
    Labels are not used, so a cluster is a kind of input, such as a domain, a
    dialect or a place. If a kind of input goes with a label by accident, the
    clusters show it. They cannot show the effect of a single word.

    Attributes:
        n_clusters: int, or `None`. Defaults to `None`: the smallest of 4, 8
            and 16 that predicts the label about as well as the best of the
            three (held-out log loss, within one standard error).
        seed: int, of the k-means starts. Defaults to `0`.

    Raises:
        ValueError: If `n_clusters` is below 2; in `cells`, if there are
            fewer rows than clusters, or the network has no features that can
            be read.
        TypeError: If an argument is not an integer.

    Example:

    ```python
    method = kd.recipes.BalancedSampling(groups=kd.recipes.Clusters(8))
    ```

    Reference:
        GEORGE ([Sohoni et al., 2020](https://arxiv.org/abs/2011.12945))
        clusters the features of a model trained on the task, class by class;
        here they are those of the pretrained encoder, of all classes
        together.
    """

    attribute: ClassVar[str] = "cluster"

    n_clusters: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, least in (("n_clusters", 2), ("seed", 0)):
            value = getattr(self, name)
            if name == "n_clusters" and value is None:
                continue
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

    def cells(self, trainer, train, split=None):
        model = self._fitted(trainer, train)
        trainer.notes["clusters"] = int(model.n_clusters)
        rows = train if split is None else split
        return model.predict(trainer.frozen_features(rows))

    def _fitted(self, trainer, train):
        features = trainer.frozen_features(train)
        distinct = len(np.unique(features[: 10 * max(CANDIDATES)], axis=0))
        if self.n_clusters is not None:
            candidates = (self.n_clusters,)
        else:
            check_class_labels(train, self)
            candidates = [k for k in CANDIDATES if k <= len(train) // 2]
        if not candidates or len(train) < min(candidates) or distinct < 2:
            raise ValueError(
                "Expected at least as many different rows as clusters. "
                f"Received: {len(train)} rows and n_clusters={self.n_clusters}"
            )
        models = [self._kmeans(k).fit(features) for k in candidates]
        if len(models) == 1:
            return models[0]
        return _simplest(models, features, train)

    def _kmeans(self, n_clusters):
        return _BoundedKMeans(n_clusters, self.seed)


class _BoundedKMeans:
    """K-means, on batches where there are many rows."""

    def __init__(self, n_clusters, seed):
        self.n_clusters = n_clusters
        self.seed = seed

    def fit(self, features):
        kind = MiniBatchKMeans if len(features) > MANY_ROWS else KMeans
        self.model = kind(self.n_clusters, n_init=4, random_state=self.seed)
        self.model.fit(features)
        return self

    def predict(self, features):
        return self.model.predict(features)


def _simplest(models, features, train):
    """The fewest clusters within one standard error of the best log loss."""
    folds = min(FOLDS, np.unique(train.y, return_counts=True)[1].min())
    if folds < 2:
        return models[0]
    parts = cross_fitting.folds_of(train, folds)
    losses = []
    for model in models:
        cells = model.predict(features)
        found = cell_probabilities(cells, train.y, num_classes(train), parts)
        chosen = found[np.arange(len(train.y)), train.y]
        losses.append(-np.log(chosen))
    best = min(losses, key=np.mean)
    for model, loss in zip(models, losses, strict=True):
        error = (loss - best).std() / np.sqrt(len(loss))
        if loss.mean() - best.mean() <= error:
            return model
    return models[-1]


def cell_probabilities(cells, y, classes, folds) -> np.ndarray:
    """Held-out P(label | cell) of each row, `(n, classes)`.

    Counts are smoothed by one row that is distributed like the labels.
    """
    cells = np.unique(cells, return_inverse=True)[1].reshape(-1)
    found = np.zeros((len(y), classes))
    for fit, held in folds:
        prior = np.bincount(y[fit], minlength=classes) + 1.0
        counts = np.zeros((cells.max() + 1, classes))
        np.add.at(counts, (cells[fit], y[fit]), 1.0)
        counts += prior / prior.sum()
        found[held] = (counts / counts.sum(axis=1, keepdims=True))[cells[held]]
    return found
