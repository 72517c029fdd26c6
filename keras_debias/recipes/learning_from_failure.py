import dataclasses

import keras
import numpy as np

from keras_debias import losses
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class LearningFromFailure(Recipe):
    """Learns most from the rows on which a biased model fails (LfF).

    The biased model is trained with the generalized cross entropy, which
    favors easy rows. The second model weighs each row by
    `losses.RelativeDifficulty`.

    When it helps: where the shortcut is learned long before the task. Colored
    digits at 0.95, five seeds: 76.8 % correct where the color misleads (plain
    65.9), but 72.9 % in distribution (96.2). SNLI with a planted token: worst
    group 3.3 % (plain 17.5).

    Attributes:
        q: float in (0, 1]. Degree of the amplification. Defaults to `0.7`.
        biased_share: float in (0, 1). The biased model's part of the budget.
            Defaults to `0.3`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = kd.recipes.LearningFromFailure().fit(trainer, train)
    ```

    Reference:
        [Nam et al., 2020](https://arxiv.org/abs/2007.02561). They train both
        models side by side, so that the weights move with the biased model;
        here the biased one is finished first.
    """

    q: float = 0.7
    biased_share: float = 0.3

    def __post_init__(self):
        losses.GeneralizedCrossEntropy(self.q)
        check_share(self.biased_share, "biased_share")

    def fit(self, trainer, train):
        check_class_labels(train, self)
        amplified = losses.PerRow(losses.GeneralizedCrossEntropy(self.q))
        biased = trainer.fit(
            train, share=self.biased_share, is_final=False, objective=amplified
        )
        probabilities = trainer.predict(biased, train)
        trainer.notes["biased_accuracy"] = float(
            (probabilities.argmax(-1) == train.y).mean()
        )
        right = probabilities[np.arange(len(train)), train.y]
        table = -np.log(np.maximum(right, 1e-7))
        return trainer.fit(train, objective=losses.RelativeDifficulty(table))
