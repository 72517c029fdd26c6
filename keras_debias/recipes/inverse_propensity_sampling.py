import dataclasses

import keras
import numpy as np

from keras_debias.data.weighted_sampler import WeightedSampler
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.clusters import Clusters
from keras_debias.recipes.co_trained_hint import CoTrainedHint
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.group_inference import agreement
from keras_debias.recipes.propensity import effective_share
from keras_debias.recipes.propensity import inverse_propensity
from keras_debias.recipes.propensity import temper
from keras_debias.recipes.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class InversePropensitySampling(Recipe):
    """Plain fine-tuning on rows drawn by 1 / P(label | inferred attribute).

    Each view infers the value of the unknown attribute of every row, its
    cell. The weight of a row is the product over the views of
    1 / P(label | cell), to the power `power`. A product of two views that
    agree corrects twice, a geometric mean (power 1/2) of two views that err
    independently corrects too little; 3/4 lies between. The weights are
    tempered until at least `min_effective` of the rows is effective:
    otherwise a few rows would decide, and the shortcut would turn round.

    Attributes:
        views: tuple of ways to infer groups. Defaults to `Clusters()` and
            its `CoTrainedHint`.
        power: float, above 0 and at most 1. Defaults to `0.75`; use `1.0`
            with one view.
        min_effective: float in (0, 1). The effective number of rows (1 / sum
            of squared shares) is at least this part of all. Defaults to
            `0.15`.

    Raises:
        TypeError: If `views` is not a tuple of ways to infer groups.
        ValueError: If a number is out of range.

    Example:

    ```python
    method = kd.recipes.InversePropensitySampling()
    model = method.fit(trainer, train)
    trainer.notes["effective_share"]
    ```

    Reference:
        Weights 1 / P(label | attribute) with a known attribute:
        [Idrissi et al., 2022](https://arxiv.org/abs/2110.14503) for group
        weights; the effective number of rows is Kish's (1965). Inferred
        views, the power and the bound are this library's.
    """

    views: tuple[GroupInference, ...] = (Clusters(), CoTrainedHint())
    power: float = 0.75
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
                f"as `(Clusters(),)`, received views={self.views!r}"
            )
        object.__setattr__(self, "views", tuple(views))
        check_share(self.min_effective, "min_effective")
        if isinstance(self.power, bool) or not isinstance(
            self.power, (int, float, np.number)
        ):
            raise TypeError(
                f"Expected `power` to be a number, received {self.power!r}"
            )
        if not (np.isfinite(self.power) and 0 < self.power <= 1):
            raise ValueError(
                "Expected `power` above 0 and at most 1, received "
                f"power={self.power}"
            )

    def fit(self, trainer, train):
        weights = self.weights(trainer, train)
        return trainer.fit(train, sampler=WeightedSampler(weights))

    def weights(self, trainer, train) -> np.ndarray:
        """The weight of each training row, float `(n,)` with a mean of 1.

        Args:
            trainer: `recipes.Trainer`.
            train: `kd.data.Split` with one class a row.
        """
        check_class_labels(train, self)
        true = train.groups
        hidden = train.with_groups(None)
        weights = np.ones(len(train))
        for view in self.views:
            cells = view.cells(trainer, hidden)
            weights = weights * inverse_propensity(train.y, cells)
            if true is not None:
                inferred = hidden.with_label_groups(
                    {view.attribute: cells}
                ).groups
                found = trainer.notes.setdefault("agreement", {})
                found[type(view).__name__] = agreement(inferred, true)
        weights, tempered = temper(weights**self.power, self.min_effective)
        trainer.notes["effective_share"] = effective_share(weights)
        trainer.notes["tempered"] = tempered
        return weights
