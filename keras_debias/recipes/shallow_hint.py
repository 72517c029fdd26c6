import dataclasses
from typing import Any
from typing import ClassVar

import keras

from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.hints import check_confident
from keras_debias.recipes.hints import hinted_cells
from keras_debias.recipes.shallow_model import ShallowModel
from keras_debias.recipes.shallow_model import class_names


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class ShallowHint(GroupInference):
    """Groups by label x the class that a shallow model hints at.

    The shallow model is cross-fitted: it has not seen the row that it
    predicts. For the rows on which it is more confident, the cell is the class
    that it predicts; for the others it is "none". It finds what words, length
    or overlap give away (negation and overlap in MNLI). It cannot tell a
    shortcut from words that belong to a class.

    Attributes:
        confident: float in (0, 1]. The share of the rows that get a class.
            Defaults to `0.5`.
        model: a bias-only model with `out_of_fold` and `predict_proba`.
            Defaults to `ShallowModel()`.

    Raises:
        ValueError: If `confident` is out of range.

    Example:

    ```python
    method = kd.recipes.BalancedSampling(groups=kd.recipes.ShallowHint())
    ```

    Reference:
        Label x the class of a bias proxy is the grouping of uLA:
        [Tsirigotis et al., 2023](https://arxiv.org/abs/2311.02412); their
        proxy is a probe on self-supervised features.
    """

    attribute: ClassVar[str] = "hint"

    confident: float = 0.5
    model: Any = dataclasses.field(default_factory=ShallowModel)

    def __post_init__(self):
        check_confident(self.confident)

    def cells(self, trainer, train, split=None):
        check_class_labels(train, self)
        names = class_names(train)
        cells, threshold = hinted_cells(
            self.model.out_of_fold(train), names, self.confident
        )
        if split is None:
            return cells
        return hinted_cells(
            self.model.predict_proba(train, split),
            names,
            self.confident,
            threshold,
        )[0]

    def get_config(self):
        return {
            "confident": self.confident,
            "model": keras.saving.serialize_keras_object(self.model),
        }

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})
