import abc
import dataclasses

import numpy as np

from keras_debias.data.weighted_sampler import WeightedSampler
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.group_inference import agreement
from keras_debias.recipes.propensity import effective_share
from keras_debias.recipes.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class ViewSampling(Recipe):
    """Base class of methods that draw rows by weights of inferred attributes.

    A subclass overrides one method, `weights_of`.

    Attributes:
        views, min_effective: see `InversePropensitySampling`.
    """

    views: tuple[GroupInference, ...]
    min_effective: float = 0.15

    def __post_init__(self):
        views = self.views
        if isinstance(views, GroupInference):
            views = (views,)
        if (
            not isinstance(views, (tuple, list))
            or not views
            or not all(isinstance(view, GroupInference) for view in views)
        ):
            raise TypeError(
                "Expected `views` to be a tuple of ways to infer groups, such "
                f"as `(Clusters(),)`. Received: views={self.views!r}"
            )
        object.__setattr__(self, "views", tuple(views))
        check_share(self.min_effective, "min_effective")

    @abc.abstractmethod
    def weights_of(self, trainer, train, cells) -> np.ndarray:
        """The weight of each row.

        Args:
            trainer: `recipes.Trainer`, for its notes.
            train: `kd.data.Split` with one class a row.
            cells: list of arrays of shape `(n,)`, one for each attribute.

        Returns:
            A float array of shape `(n,)` with a mean of 1.
        """

    def fit(self, trainer, train):
        weights = self.weights(trainer, train)
        return trainer.fit(train, sampler=WeightedSampler(weights))

    def weights(self, trainer, train) -> np.ndarray:
        """The weight of each training row.

        Args:
            trainer: `recipes.Trainer`.
            train: `kd.data.Split` with one class a row.

        Returns:
            A float array of shape `(n,)` with a mean of 1.
        """
        check_class_labels(train, self)
        true = train.groups
        hidden = train.with_groups(None)
        every = []
        for view in self.views:
            cells = view.views(trainer, hidden)
            every += cells
            if true is not None:
                names = [view.attribute]
                if len(cells) > 1:
                    names = [f"{names[0]} {i + 1}" for i in range(len(cells))]
                inferred = hidden.with_label_groups(
                    dict(zip(names, cells, strict=True))
                ).groups
                found = trainer.notes.setdefault("agreement", {})
                found[type(view).__name__] = agreement(inferred, true)
        weights = self.weights_of(trainer, train, every)
        trainer.notes["effective_share"] = effective_share(weights)
        return weights
