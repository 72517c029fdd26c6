import abc
import dataclasses

import numpy as np

from keras_debias.data.groups import Groups
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.group_inference import agreement
from keras_debias.recipes.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class GroupRecipe(Recipe):
    """Base class of methods that need to know the group of each row.

    A subclass overrides one method, `fit_groups`.

    Attributes:
        groups: `None` for the groups of the training data, or a
            `GroupInference` such as `XRM()`, which needs no group labels. If
            the data has groups as well, the agreement of both is in the notes
            of the result. Defaults to `None`.

    Raises:
        TypeError: If `groups` is none of these.
        ValueError: In `fit`, if there are no groups, or fewer than two with
            rows.

    Example:

    ```python
    import dataclasses


    @dataclasses.dataclass(frozen=True)
    class LargestGroups(kd.recipes.GroupRecipe):
        def fit_groups(self, trainer, train):
            sizes = np.bincount(train.groups.ids)
            return trainer.fit(train.take(sizes[train.groups.ids] >= 20))
    ```
    """

    groups: GroupInference | None = None

    def __post_init__(self):
        if self.groups is not None and not isinstance(
            self.groups, GroupInference
        ):
            raise TypeError(
                "Expected `groups` to be None or a way to infer groups, such "
                f"as `XRM()`. Received: groups={self.groups!r}"
            )

    @property
    def needs_groups(self) -> bool:
        return self.groups is None

    def fit(self, trainer, train):
        true = train.groups
        if self.groups is not None:
            found = self.groups.infer(trainer, train.with_groups(None))
            trainer.notes["inferred_groups"] = found.counts()
            if true is not None:
                trainer.notes["agreement"] = agreement(found, true)
            train = train.with_groups(found)
        elif true is None:
            raise ValueError(
                f"Expected groups for `{type(self).__name__}`. Received: "
                "training data without. Give it some with "
                "`train.with_groups(...)`, or let the method infer them: "
                f"`{type(self).__name__}(groups=XRM())`."
            )
        filled = np.unique(train.groups.ids)
        if len(filled) < 2:
            raise ValueError(
                "Expected at least two groups with rows for "
                f"`{type(self).__name__}`. Received: {train.groups}"
            )
        # Ids without gaps: objectives keep one weight for each.
        names = [train.groups.names[i] for i in filled]
        ids = np.searchsorted(filled, train.groups.ids)
        return self.fit_groups(trainer, train.with_groups(Groups(ids, names)))

    @abc.abstractmethod
    def fit_groups(self, trainer, train):
        """Trains on rows with groups; like `Recipe.fit`.

        Args:
            trainer: `Trainer` of this run.
            train: `kd.data.Split` with labels and `Groups`, each of which has
                rows.

        Returns:
            A model with `predict`, usually a `DebiasedModel`.
        """
