import keras
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_row_losses
from keras_debias.losses.utils import check_table
from keras_debias.losses.utils import table_weight


@keras.saving.register_keras_serializable(package="keras_debias")
class RelativeDifficulty(TaskObjective):
    """Weighs rows by how much harder a biased model finds them.

    The weight of a row is `B / (B + L)`, with `L` its loss and `B` the loss
    that a biased model has on it: near one where the biased model fails and
    this one does not, near zero where the shortcut leads to the label. No
    gradient flows through the weight.

    Args:
        biased_losses: float array of shape `(n,)`, one loss a row of the
            training data, none negative.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        ValueError: If losses are negative or not finite; in training, if the
            compiled loss has a value for each token.

    Example:

    ```python
    objective = kd.losses.RelativeDifficulty(losses_of_a_biased_model)
    model = kd.DebiasedModel(network, objective=objective)
    ```

    Reference:
        [Nam et al., 2020](https://arxiv.org/abs/2007.02561), equation (4).
        They train the biased model at the same time and smooth its losses;
        here they are given. See `recipes.LearningFromFailure`.
    """

    needs_index = True

    def __init__(self, biased_losses, name=None):
        table = check_table(biased_losses, "biased_losses", 1)
        if (table < 0).any():
            raise ValueError(
                "Expected `biased_losses` of at least 0. Received: "
                f"{int((table < 0).sum())} negative ones"
            )
        super().__init__(name=name)
        self.biased_losses = table_weight(self, "biased_losses", table)

    @property
    def num_rows(self) -> int:
        """How many training rows it knows."""
        return self.biased_losses.shape[0]

    def call(self, y_true, y_pred, losses, groups, index):
        values = losses(y_true, y_pred)
        check_row_losses(values, self)
        own = ops.stop_gradient(ops.cast(values, "float32"))
        biased = ops.take(self.biased_losses, index)
        weights = biased / ops.maximum(biased + own, 1e-8)
        return ops.cast(weights, values.dtype) * values

    def get_config(self):
        table = ops.convert_to_numpy(self.biased_losses)
        return {"biased_losses": table.tolist(), "name": self.name}
