import keras

from keras_debias.losses.task_objective import TaskObjective


@keras.saving.register_keras_serializable(package="keras_debias")
class PerRow(TaskObjective):
    """Minimizes a function of each row's loss in place of the loss.

    Args:
        function: registered function of a tensor of losses to a tensor of
            the same shape, such as `GeneralizedCrossEntropy(q=0.7)`.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        TypeError: If `function` is not callable.

    Example:

    ```python
    # A biased model, on purpose.
    model = kd.DebiasedModel(
        network,
        objective=kd.losses.PerRow(kd.losses.GeneralizedCrossEntropy(0.7)),
    )
    ```
    """

    def __init__(self, function, name=None):
        if not callable(function):
            raise TypeError(
                "Expected `function` to be a function of losses. "
                f"Received: function={function!r}"
            )
        super().__init__(name=name)
        self.function = function

    def call(self, y_true, y_pred, losses, groups, index):
        return self.function(losses(y_true, y_pred))

    def get_config(self):
        function = keras.saving.serialize_keras_object(self.function)
        return {"function": function, "name": self.name}

    @classmethod
    def from_config(cls, config):
        function = keras.saving.deserialize_keras_object(config["function"])
        return cls(function, name=config["name"])
