import keras
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_probabilities
from keras_debias.losses.utils import check_row_losses
from keras_debias.losses.utils import table_weight


@keras.saving.register_keras_serializable(package="keras_debias")
class LearnedMixin(TaskObjective):
    """Trains the network in an ensemble with a bias-only model.

    The loss is that of `log_softmax(z + g log b)`: `z` are the network's
    logits, `b` the probabilities of a bias-only model, and
    `g = softplus(w . z + c)` how far the bias is to be trusted on this row;
    `w` and `c` train along. What the bias explains, the network need not
    learn. At inference the network stands alone.

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
    model = kd.DebiasedModel(network, objective=kd.losses.LearnedMixin(bias))
    ```

    Reference:
        [Clark et al., 2019](https://arxiv.org/abs/1909.03683), the learned
        mixin without entropy penalty. Their `g` reads the layer before the
        logits; this one reads the logits, so that any network will do. The
        compiled loss must take logits.
    """

    needs_index = True

    def __init__(self, bias_probabilities, name=None):
        table = check_probabilities(bias_probabilities, "bias_probabilities")
        super().__init__(name=name)
        self.bias_probabilities = table_weight(
            self, "bias_probabilities", table
        )
        self.kernel = self.add_weight(
            name="kernel", shape=(table.shape[1],), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")

    @property
    def num_rows(self) -> int:
        """How many training rows it knows."""
        return self.bias_probabilities.shape[0]

    def call(self, y_true, y_pred, losses, groups, index):
        logits = ops.cast(y_pred, "float32")
        trust = ops.softplus(
            ops.sum(logits * self.kernel, axis=-1, keepdims=True) + self.bias
        )
        known = ops.take(self.bias_probabilities, index, axis=0)
        biased = ops.log(ops.maximum(known, 1e-6))
        values = losses(y_true, ops.log_softmax(logits) + trust * biased)
        check_row_losses(values, self)
        return values

    def get_config(self):
        table = ops.convert_to_numpy(self.bias_probabilities)
        return {"bias_probabilities": table.tolist(), "name": self.name}
