import dataclasses

import keras
import numpy as np

from keras_debias import losses
from keras_debias.data.stratified_batch_sampler import StratifiedBatchSampler
from keras_debias.recipes.group_recipe import GroupRecipe


# Another class of this name is in `losses`.
@keras.saving.register_keras_serializable(
    package="keras_debias", name="recipes.GradientAlignment"
)
@dataclasses.dataclass(frozen=True)
class GradientAlignment(GroupRecipe):
    """Balances the gradients of bias-aligned and conflicting rows (GA).

    See `losses.GradientAlignment`. Every batch holds some conflicting rows.

    When it helps: where there are enough conflicting rows to learn from. With
    58 to 74 of 4,000 it harms: SNLI with a planted token, three seeds: worst
    group 0.0 % (plain 17.5).

    Attributes:
        groups: see `GroupRecipe`. Defaults to `None`: those of the data.
        conflicting: tuple of strings, the names of the groups in which the
            shortcut misleads. Defaults to `None`: those with less than half
            an even share of the rows.
        gamma: float, above 0. Above one, conflicting rows get more weight.
            Defaults to `1.0`.

    Raises:
        ValueError: If `gamma` is out of range; in `fit`, if a name is unknown,
            or no group or every group is conflicting.

    Example:

    ```python
    method = kd.recipes.GradientAlignment(
        conflicting=(
            "label=neutral, token=yes",
            "label=contradiction, token=yes",
        )
    )
    ```

    Reference:
        [Zhao et al., 2021](https://arxiv.org/abs/2111.13108) and the
        authors' code.
    """

    conflicting: tuple[str, ...] | None = None
    gamma: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        losses.GradientAlignment([0], self.gamma)

    def fit_groups(self, trainer, train):
        ids = self._conflicting_ids(train.groups)
        trainer.notes["conflicting"] = [train.groups.names[i] for i in ids]
        return trainer.fit(
            train,
            objective=losses.GradientAlignment(ids, self.gamma),
            sampler=StratifiedBatchSampler(
                np.isin(train.groups.ids, ids), trainer.budget.batch_size
            ),
        )

    def _conflicting_ids(self, groups) -> list[int]:
        names = groups.names
        if self.conflicting is None:
            few = len(groups) / len(names) / 2
            ids = [
                number
                for number, count in enumerate(groups.counts().values())
                if count < few
            ]
        else:
            unknown = sorted(set(self.conflicting) - set(names))
            if unknown:
                raise ValueError(
                    f"Expected `conflicting` among the groups {names}. "
                    f"Received: {unknown}"
                )
            ids = [names.index(name) for name in self.conflicting]
        if not 0 < len(ids) < len(names):
            raise ValueError(
                "Expected some conflicting groups and some others. Received: "
                f"{len(ids)} conflicting of {groups}. Name them with "
                "`conflicting=`."
            )
        return ids
