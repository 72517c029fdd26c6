import dataclasses

import keras
import numpy as np

from keras_debias.data.weighted_sampler import WeightedSampler
from keras_debias.evaluation.evaluate import score_splits
from keras_debias.evaluation.predicted import kind_of
from keras_debias.evaluation.score_frame import Settings
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import check_share
from keras_debias.recipes.first_stage_predictions import check_mistakes
from keras_debias.recipes.first_stage_predictions import first_stage_predictions
from keras_debias.recipes.recipe import Recipe
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class JTT(Recipe):
    """Just train twice: the rows that a first model gets wrong count more.

    The first model is trained plainly on a share of the budget. The second,
    from the same start, sees every row that the first gets wrong
    `upweight` times as often as the others, by drawing rows.

    Where rows may have several labels, a row is wrong if one of them is, as
    `kd.evaluate` reads them.

    When it helps: where the first model is wrong mainly on rows against the
    shortcut. Colored digits, 95 of 100 in the color of their class, five
    seeds: 74.0 % correct where the color misleads (plain 65.9). Where the
    first model is weak it harms: SNLI with a planted token, 4,000 rows, three
    seeds: worst group 0.0 % (plain 17.5).

    Attributes:
        upweight: float, above 1. The paper tunes it between 4 and 100 (6 on
            MultiNLI and CivilComments, 100 on Waterbirds, 50 on CelebA).
            Defaults to `6.0`.
        first_share: float in (0, 1). The first model's part of the budget:
            the number of its updates is JTT's other parameter. Defaults to
            `0.3`.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the labels
            are not classes, or the first model gets every row right, or every
            row wrong.

    Example:

    ```python
    model = kd.recipes.JTT(upweight=6).fit(trainer, train)
    trainer.notes["mistakes"]
    ```

    Reference:
        [Liu et al., 2021](https://arxiv.org/abs/2107.09044). They give the
        second model a full training run of its own; here both share one
        budget, and an epoch of the second is as long as without repeated
        rows.
    """

    upweight: float = 6.0
    first_share: float = 0.3

    def __post_init__(self):
        check_share(self.first_share, "first_share")
        if not (is_number(self.upweight) and self.upweight > 1):
            raise ValueError(
                "Expected `upweight` to be a finite number above 1. "
                f"Received: upweight={self.upweight!r}"
            )

    def fit(self, trainer, train):
        wrong = self._mistakes(trainer, train)
        return trainer.fit(
            train,
            sampler=WeightedSampler(np.where(wrong, self.upweight, 1.0)),
        )

    def _mistakes(self, trainer, train):
        """Which rows a first model gets wrong."""
        if train.y is None or kind_of(train) != "multi_label":
            check_class_labels(train, self)
            return first_stage_predictions(trainer, train, self.first_share)[1]
        first = trainer.fit(train, share=self.first_share, is_final=False)
        found = score_splits(
            first,
            {"train": train.with_groups(None)},
            settings=Settings(),
            batch_size=trainer.budget.batch_size,
        ).predictions
        wrong = (found["label"] != found["prediction"]).to_numpy()
        check_mistakes(trainer, wrong, self.first_share)
        return wrong
