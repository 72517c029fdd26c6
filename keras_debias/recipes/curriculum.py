import dataclasses
from typing import Any

import keras
import numpy as np

from keras_debias.data.curriculum_sampler import CurriculumSampler
from keras_debias.recipes.bag_of_words import BagOfWords
from keras_debias.recipes.checks import check_bias_only
from keras_debias.recipes.recipe import Recipe
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class Curriculum(Recipe):
    """Orders training from biased to unbiased examples.

    Rows are ranked by a bias-only model's probability of their label. The
    first updates draw from the share `start` with the highest probability.
    The share grows linearly, and reaches all rows after the share `growth` of
    the budget.

    Attributes:
        start: float in (0, 1]. Share of the rows at the start. Defaults to
            `0.25`.
        growth: float in (0, 1]. Share of the budget until all rows are used.
            Defaults to `0.5`.
        bias_only: a bias-only model with `out_of_fold(train)`. Defaults to
            `BagOfWords()`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = kd.recipes.Curriculum().fit(trainer, train)
    ```

    Reference:
        After the idea of Lee et al., Curriculum Debiasing (ACL 2025): a
        biased-to-unbiased order. Ranking and growth here are our own.
    """

    start: float = 0.25
    growth: float = 0.5
    bias_only: Any = dataclasses.field(default_factory=BagOfWords)

    def __post_init__(self):
        for name in ("start", "growth"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value <= 1):
                raise ValueError(
                    f"Expected `{name}` in (0, 1]. Received: {name}={value!r}"
                )
        check_bias_only(self.bias_only)

    def fit(self, trainer, train):
        biased = self.bias_only.out_of_fold(train)
        difficulty = 1 - biased[np.arange(len(train)), train.y]
        budget = trainer.budget
        passes = budget.updates_for(len(train)) / -(
            -len(train) // budget.batch_size
        )
        sampler = CurriculumSampler(
            difficulty, self.start, self.growth * passes
        )
        return trainer.fit(train, sampler=sampler)
