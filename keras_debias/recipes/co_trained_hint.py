import dataclasses
from typing import ClassVar

import keras
import numpy as np

from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.clusters import Clusters
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.shallow_model import ShallowModel
from keras_debias.recipes.shallow_model import class_names
from keras_debias.recipes.shallow_model import num_classes


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class CoTrainedHint(GroupInference):
    """Groups by label x a second view of what other cells hint at.

    Each cell of `groups` hints at the class that is most overrepresented in
    it. A cross-fitted shallow model learns to predict this hint from words
    and simple measures. The cell of a row is its prediction. Both views
    point at the same unknown attribute, and their errors are different: a
    row that k-means puts on the wrong side of a boundary still has the words
    of its domain. The shallow model never sees the labels themselves, so
    words that honestly belong to a class are not taken for a cue.

    Attributes:
        groups: the first view. Defaults to `Clusters()`.
        model: a bias-only model with `out_of_fold` and `predict_proba`.
            Defaults to `ShallowModel()`.

    Example:

    ```python
    clusters = kd.recipes.Clusters()
    method = kd.recipes.InversePropensitySampling(
        views=(clusters, kd.recipes.CoTrainedHint(clusters))
    )
    ```

    Reference:
        Two views that teach each other:
        [Blum and Mitchell, 1998](https://doi.org/10.1145/279943.279962).
    """

    attribute: ClassVar[str] = "second view"

    groups: GroupInference = dataclasses.field(default_factory=Clusters)
    model: ShallowModel = dataclasses.field(default_factory=ShallowModel)

    def __post_init__(self):
        if not isinstance(self.groups, GroupInference):
            raise TypeError(
                "Expected `groups` to be a way to infer groups, such as "
                f"`Clusters()`, received groups={self.groups!r}"
            )

    def cells(self, trainer, train, split=None):
        check_class_labels(train, self)
        hint = hinted_classes(self.groups.cells(trainer, train), train)
        names = np.asarray(class_names(train), dtype=object)
        there, codes, counts = np.unique(
            hint, return_inverse=True, return_counts=True
        )
        rows = train if split is None else split
        if len(there) < 2 or counts.min() < self.model.folds:
            # The first view hints at one class everywhere.
            return np.full(len(rows), names[there[counts.argmax()]])
        of_hints = train._replace(
            y=codes.reshape(-1).astype("int32"),
            label_names=tuple(names[there]),
            groups=None,
        )
        if split is None:
            found = self.model.out_of_fold(of_hints)
        else:
            found = self.model.predict_proba(of_hints, split)
        return names[there[found.argmax(axis=1)]]

    def get_config(self):
        return {
            "groups": keras.saving.serialize_keras_object(self.groups),
            "model": keras.saving.serialize_keras_object(self.model),
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                for name, value in config.items()
            }
        )


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
