import dataclasses
from typing import Any

import keras
import numpy as np

from keras_debias import projections
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.shallow_model import ShallowModel


# Another class of this name is in `projections`.
@keras.saving.register_keras_serializable(
    package="keras_debias", name="recipes.EDGE"
)
@dataclasses.dataclass(frozen=True)
class EDGE(Recipe):
    """EDGE against the bias of a bias-only model.

    `projections.EDGE` takes examples that are easy for the model in training
    as biased. Here a bias-only model is fitted first and decides which
    examples are biased: the bias gradient weighs each sample by `b^q`, with
    `b` the out-of-fold probability of the sample's label. The equations are
    the same.

    Attributes:
        alpha: float, at least 0. See `projections.EDGE`. Defaults to `0.5`.
        q: float in (0, 1]. See `projections.EDGE`. Defaults to `0.7`.
        scope: `"variable"` or `"global"`. See `projections.EDGE`. Defaults to
            `"variable"`.
        bias_only: a bias-only model with `out_of_fold(train)`, which returns
            class probabilities of shape `(n, classes)`. `None` takes the
            probabilities of the model in training, as the paper does.
            Defaults to `ShallowModel()`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If `bias_only` is neither a bias-only model nor `None`.

    Example:

    ```python
    methods = {
        "EDGE": kd.recipes.EDGE(alpha=0.5, bias_only=None),
        "EDGE, bag of words": kd.recipes.EDGE(alpha=8.0),
    }
    ```

    Reference:
        EDGE (CCL 2025), equations (9) to (12). The bias-only model is ours,
        after REW and LM in [Clark et al., 2019](
        https://arxiv.org/abs/1909.03683).
    """

    alpha: float = 0.5
    q: float = 0.7
    scope: str = "variable"
    bias_only: Any = dataclasses.field(default_factory=ShallowModel)

    def __post_init__(self):
        self._projection(None)
        known = getattr(self.bias_only, "out_of_fold", None)
        if self.bias_only is not None and not callable(known):
            raise TypeError(
                "Expected `bias_only` to be None or a bias-only model with "
                "`out_of_fold(train)`, such as `ShallowModel()`. Received: "
                f"bias_only={self.bias_only!r}"
            )

    def fit(self, trainer, train):
        probabilities = None
        if self.bias_only is not None:
            check_class_labels(train, self)
            biased = self.bias_only.out_of_fold(train)
            trainer.notes["bias_only_accuracy"] = float(
                (biased.argmax(-1) == train.y).mean()
            )
            probabilities = biased[np.arange(len(train)), train.y]
        return trainer.fit(train, projection=self._projection(probabilities))

    def _projection(self, probabilities):
        return projections.EDGE(
            self.alpha,
            self.q,
            self.scope,
            bias_probabilities=probabilities,
        )
