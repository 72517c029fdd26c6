import keras
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_probabilities
from keras_debias.losses.utils import check_row_losses
from keras_debias.losses.utils import table_weight


@keras.saving.register_keras_serializable(package="keras_debias")
class ProductOfExperts(TaskObjective):
    """Trains the network in a product with a bias-only model.

    The loss is that of `log_softmax(z) + log b`: `z` are the network's
    logits, and `b` the probabilities of a bias-only model. What the bias
    explains, the network need not learn. Nothing but the network trains, and
    at inference it stands alone. `LearnedMixin` also learns how far the bias
    is to be trusted.

    Args:
        bias_probabilities: float array of shape `(n, classes)`: the bias-only
            model's probabilities for each row of the training data.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        ValueError: If they are not probabilities; in training, if the
            compiled loss has a value for each token.

    Example:

    ```python
    bias = kd.recipes.BagOfWords().out_of_fold(train)
    model = kd.DebiasedModel(
        network, objective=kd.losses.ProductOfExperts(bias)
    )
    ```

    Reference:
        The bias product of [Clark et al., 2019](
        https://arxiv.org/abs/1909.03683), after [Hinton, 2002](
        https://doi.org/10.1162/089976602760128018). The compiled loss must
        take logits.
    """

    needs_index = True

    def __init__(self, bias_probabilities, name=None):
        table = check_probabilities(bias_probabilities, "bias_probabilities")
        super().__init__(name=name)
        self.bias_probabilities = table_weight(
            self, "bias_probabilities", table
        )

    @property
    def num_rows(self) -> int:
        """How many training rows it knows."""
        return self.bias_probabilities.shape[0]

    def call(self, y_true, y_pred, losses, groups, index):
        logits = ops.cast(y_pred, "float32")
        known = ops.take(self.bias_probabilities, index, axis=0)
        biased = ops.log(ops.maximum(known, 1e-6))
        values = losses(y_true, ops.log_softmax(logits) + biased)
        check_row_losses(values, self)
        return values

    def get_config(self):
        table = ops.convert_to_numpy(self.bias_probabilities)
        return {"bias_probabilities": table.tolist(), "name": self.name}
