import keras

from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)


class GradientCosine(keras.callbacks.Callback):
    """Logs the cosine and the norm ratio of bias and task gradients.

    Adds `gradient_cosine`, the cosine of the two gradients over all trainable
    weights as one vector, and `gradient_norm_ratio`, the length of the bias
    gradient over that of the task's; both are means over the batches of an
    epoch. Steps whose gradients overflow, as under loss scaling, do not count.
    This costs one more backward pass, unless a projection has the same
    objective.

    Args:
        objective: function of per-sample losses. The objective to compare
            with. Defaults to `None`: `GeneralizedCrossEntropy(0.7)`, EDGE's
            own.

    Raises:
        TypeError: If `objective` is not a function, or the model is not a
            `DebiasedModel`.

    Example:

    ```python
    history = model.fit(train, callbacks=[kd.callbacks.GradientCosine()])
    history.history["gradient_cosine"]
    ```
    """

    def __init__(self, objective=None):
        super().__init__()
        if objective is None:
            objective = GeneralizedCrossEntropy(0.7)
        if not callable(objective):
            raise TypeError(
                "Expected `objective` to be a function of losses. Received: "
                f"objective={objective!r}"
            )
        self.objective = objective

    def set_model(self, model):
        super().set_model(model)
        if not hasattr(model, "track_alignment"):
            raise TypeError(
                "Expected a `DebiasedModel`: other models do not keep their "
                f"gradients. Received: model={model!r}"
            )
        model.track_alignment(self.objective)
