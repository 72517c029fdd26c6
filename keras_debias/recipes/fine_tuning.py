import dataclasses
from typing import Any

import keras

from keras_debias.projections.projection import Projection
from keras_debias.recipes.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class FineTuning(Recipe):
    """Fine-tuning in one stage, with the options of `DebiasedModel`.

    Without arguments it is plain fine-tuning (ERM).

    Attributes:
        projection: a projection, or a tuple of them. Defaults to `None`.
        regularizers: a regularizer, or a tuple of them. Defaults to `None`.
        objective: a `losses.TaskObjective`. Defaults to `None`.
        loss: a Keras loss that takes the place of the network's own, such as
            `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.
            Defaults to `None`.
        adapters: an adapter, or a tuple of them, applied to the network that
            `model_fn` makes. Defaults to `None`: the network as it is.

    Raises:
        TypeError: If `projection` is not a projection.

    Example:

    ```python
    methods = {
        "ERM": kd.recipes.FineTuning(),
        "EDGE": kd.recipes.FineTuning(kd.projections.EDGE(alpha=0.5)),
    }
    ```
    """

    projection: Any = None
    regularizers: Any = None
    objective: Any = None
    loss: Any = None
    adapters: Any = None

    def __post_init__(self):
        projections = self.projection
        if not isinstance(projections, (list, tuple)):
            projections = [projections]
        for each in projections:
            if each is not None and not isinstance(each, Projection):
                raise TypeError(
                    "Expected `projection` to be a projection such as "
                    f"`EDGE()`. Received: projection={self.projection!r}"
                )

    def fit(self, trainer, train):
        objective = self.objective
        if objective is not None:
            # It may have state, and this recipe is used for many runs.
            objective = type(objective).from_config(objective.get_config())
        return trainer.fit(
            train,
            projection=self.projection,
            regularizers=self.regularizers,
            objective=objective,
            loss=self.loss,
            adapters=self.adapters,
        )
