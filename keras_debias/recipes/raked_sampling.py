import dataclasses

import keras

from keras_debias.recipes.raking import raking_weights
from keras_debias.recipes.view_sampling import ViewSampling


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class RakedSampling(ViewSampling):
    """Plain fine-tuning on rows drawn by raking weights.

    Groups of label x several attributes are many, and some of them have no
    row. Raking (iterative proportional fitting) asks only for the totals of
    label x each attribute. In every cell of an attribute, all labels have the
    same total weight, so that no attribute tells the label. Cells become as
    even as `min_effective` allows: rows with a rare cue are drawn more often.
    `InversePropensitySampling` leaves them as rare as they are.

    When it helps: where several features are shortcuts, or a rare one is, and
    the model learns more than them. MNLI, five cues that an audit found, MiniLM
    with LoRA, 750 updates, one draw: worst group with negations 21.6 % (plain
    fine-tuning 7.8, inverse propensity 12.4, balanced over the true groups
    20.5). It costs accuracy in distribution: 51.2 % (61.4, 56.7 and 49.0).

    Attributes:
        views: a `GroupInference` or a tuple of them. Each finding of
            `FindingGroups` is an attribute.
        min_effective: float in (0, 1). The effective number of rows (1 / sum
            of squared shares) is at least this part of all. Defaults to
            `0.15`.

    Raises:
        TypeError: If `views` is not a tuple of ways to infer groups.
        ValueError: If `min_effective` is out of range.

    Example:

    ```python
    report = kd.audit(train)
    method = kd.recipes.RakedSampling(
        views=kd.recipes.FindingGroups(report.findings[:4])
    )
    model = method.fit(trainer, train)
    trainer.notes["effective_share"]
    ```

    Reference:
        Raking: [Deming and Stephan,
        1940](https://doi.org/10.1214/aoms/1177731829). The effective number
        of rows is Kish's (1965). The totals, and how even they become, are
        this library's.
    """

    def weights_of(self, trainer, train, cells):
        weights, evenness = raking_weights(train.y, cells, self.min_effective)
        trainer.notes["evenness"] = evenness
        return weights
