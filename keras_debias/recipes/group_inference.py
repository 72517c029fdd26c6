import abc
import dataclasses
from typing import ClassVar

import numpy as np
from sklearn.metrics import adjusted_rand_score

from keras_debias.data.groups import Groups


@dataclasses.dataclass(frozen=True)
class GroupInference(abc.ABC):
    """Base class of ways to find groups without group labels.

    A subclass overrides one method, `cells`: the inferred value of the
    unknown attribute of each row. Groups are label x cell. It never sees the
    groups of the data, if there are any.

    Attributes:
        attribute: string, the attribute's name in the names of groups; of the
            class, not an argument. Defaults to `"cell"`.

    Example:

    ```python
    @dataclasses.dataclass(frozen=True)
    class LongTexts(kd.recipes.GroupInference):
        attribute = "long"

        def cells(self, trainer, train, split=None):
            texts = (train if split is None else split).x
            return np.array([len(text) > 100 for text in texts])
    ```
    """

    attribute: ClassVar[str] = "cell"

    @abc.abstractmethod
    def cells(self, trainer, train, split=None) -> np.ndarray:
        """Infers the cell of each row.

        Args:
            trainer: `recipes.Trainer`; training here uses a part of its
                budget.
            train: `kd.data.Split` with labels, to learn from.
            split: `kd.data.Split` whose rows get a cell; its labels are not
                used. Defaults to `None`: the rows of `train`.

        Returns:
            Array of shape `(n,)` of integers, booleans or strings.
        """

    def views(self, trainer, train, split=None) -> list[np.ndarray]:
        """The cells of each row, for each inferred attribute by itself.

        For methods that weigh by several attributes, such as `RakedSampling`.

        Args:
            trainer, train, split: as for `cells`.

        Returns:
            List of arrays of shape `(n,)`. Unless a subclass says more, there
            is one attribute, with the cells of `cells`.
        """
        return [self.cells(trainer, train, split)]

    def infer(self, trainer, train) -> Groups:
        """Infers the group of each training row, label x cell.

        Args:
            trainer: `recipes.Trainer`.
            train: `kd.data.Split` with labels.

        Returns:
            `kd.data.Groups`.
        """
        cells = self.cells(trainer, train)
        return train.with_label_groups({self.attribute: cells}).groups

    def get_config(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def agreement(inferred: Groups, true: Groups) -> dict:
    """How well inferred groups match the true ones.

    Args:
        inferred, true: `kd.data.Groups` of the same rows.

    Returns:
        Dict with `"adjusted_rand"` (1: the same groups, about 0: no better
        than chance) and `"matches"`: for each true group the inferred group
        with the highest F1, as `{"group", "recall", "precision"}`.

    Raises:
        ValueError: If the numbers of rows differ.
        TypeError: If an argument is not `kd.data.Groups`.

    Example:

    >>> groups = Groups([0, 0, 1], ["a", "b"])
    >>> agreement(groups, groups)["adjusted_rand"]
    1.0
    """
    if not isinstance(inferred, Groups) or not isinstance(true, Groups):
        raise TypeError(
            "Expected `kd.data.Groups`. Received: "
            f"{type(inferred).__name__} and {type(true).__name__}"
        )
    if len(inferred) != len(true):
        raise ValueError(
            "Expected groups of the same rows. Received: "
            f"{len(inferred)} and {len(true)} rows"
        )
    matches = {}
    for number, name in enumerate(true.names):
        member = true.ids == number
        if not member.any():
            continue
        both = np.bincount(inferred.ids[member], minlength=len(inferred.names))
        sizes = np.bincount(inferred.ids, minlength=len(inferred.names))
        f1 = 2 * both / np.maximum(sizes + member.sum(), 1)
        best = int(f1.argmax())
        matches[name] = {
            "group": inferred.names[best],
            "recall": float(both[best] / member.sum()),
            "precision": float(both[best] / max(sizes[best], 1)),
        }
    return {
        "adjusted_rand": float(adjusted_rand_score(true.ids, inferred.ids)),
        "matches": matches,
    }
