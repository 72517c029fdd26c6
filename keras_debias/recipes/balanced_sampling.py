import dataclasses
from typing import Any

import keras

from keras_debias.data.balanced_sampler import BalancedSampler
from keras_debias.recipes.group_recipe import GroupRecipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class BalancedSampling(GroupRecipe):
    """Fine-tuning on rows drawn equally often from every group.

    Attributes:
        groups: see `GroupRecipe`. Defaults to `None`: those of the data.
        projection: a projection, or a tuple of them, on top of the balanced
            batches. Defaults to `None`.
        regularizers: a regularizer, or a tuple of them. Defaults to `None`.

    Example:

    ```python
    methods = {
        "ERM": kd.recipes.FineTuning(),
        "balanced": kd.recipes.BalancedSampling(),
        "balanced, inferred": kd.recipes.BalancedSampling(
            groups=kd.recipes.XRM()
        ),
    }
    ```

    Reference:
        [Idrissi et al., 2022](https://arxiv.org/abs/2110.14503), RWG.
    """

    projection: Any = None
    regularizers: Any = None

    def fit_groups(self, trainer, train):
        return trainer.fit(
            train,
            projection=self.projection,
            regularizers=self.regularizers,
            sampler=BalancedSampler(train.groups),
        )
