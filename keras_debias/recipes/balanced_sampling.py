import dataclasses

import keras

from keras_debias.data.balanced_sampler import BalancedSampler
from keras_debias.recipes.group_recipe import GroupRecipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class BalancedSampling(GroupRecipe):
    """Plain fine-tuning on rows drawn equally often from every group.

    Attributes:
        groups: see `GroupRecipe`. Defaults to `None`: those of the data.

    Example:

    ```python
    methods = {
        "ERM": kd.recipes.FineTuning(),
        "balanced": kd.recipes.BalancedSampling(),
        "balanced, inferred": kd.recipes.BalancedSampling(
            groups=kd.recipes.CrossMistakes()
        ),
    }
    ```

    Reference:
        [Idrissi et al., 2022](https://arxiv.org/abs/2110.14503), RWG.
    """

    def fit_groups(self, trainer, train):
        return trainer.fit(train, sampler=BalancedSampler(train.groups))
