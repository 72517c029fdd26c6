import dataclasses
from typing import ClassVar

import keras

from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.frozen_probe import FrozenProbe
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.hints import check_confident
from keras_debias.recipes.hints import hinted_cells
from keras_debias.recipes.shallow_model import class_names


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class ProbeHint(GroupInference):
    """Groups by label x the class that a probe on frozen features hints at.

    Like `ShallowHint`, with a cross-fitted linear probe on the pretrained
    encoder's features in place of the shallow model. The probe learns the
    shortcut and part of the task, so some rows are in a cell because they are
    hard.

    Attributes:
        confident: float in (0, 1]. The share of the rows that get a class.
            Defaults to `0.5`.

    Raises:
        ValueError: If `confident` is out of range; in `cells`, if the network
            has no features that can be read.

    Example:

    ```python
    method = kd.recipes.BalancedSampling(groups=kd.recipes.ProbeHint())
    ```

    Reference:
        uLA: [Tsirigotis et al., 2023](https://arxiv.org/abs/2311.02412).
    """

    attribute: ClassVar[str] = "hint"

    confident: float = 0.5

    def __post_init__(self):
        check_confident(self.confident)

    def cells(self, trainer, train, split=None):
        check_class_labels(train, self)
        names = class_names(train)
        probe = FrozenProbe(trainer.frozen_features)
        cells, threshold = hinted_cells(
            probe.out_of_fold(train), names, self.confident
        )
        if split is None:
            return cells
        return hinted_cells(
            probe.predict_proba(train, split), names, self.confident, threshold
        )[0]
