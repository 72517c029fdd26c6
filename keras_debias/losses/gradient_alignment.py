import keras
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_count
from keras_debias.losses.utils import check_positive
from keras_debias.losses.utils import check_row_losses


@keras.saving.register_keras_serializable(package="keras_debias")
class GradientAlignment(TaskObjective):
    """Makes rows with and against the shortcut pull equally hard.

    With `p` the probability of a row's label, `1 - p` is how hard the row
    pulls at its logit. The rows of the bias-aligned groups get the weight

    ```
    sum of (1 - p) over conflicting rows
    / (gamma * sum of (1 - p) over aligned rows)
    ```

    of each batch, the conflicting rows one; then all weights are scaled to a
    mean of one. A batch without conflicting rows adds nothing: see
    `recipes.GradientAlignment`, which puts some into each.

    Args:
        conflicting: sequence of ints. Ids of the groups in which the shortcut
            misleads.
        gamma: float, above 0. Above one, conflicting rows pull harder.
            Defaults to `1.0`.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        ValueError: If an argument is out of range; in training, if the
            compiled loss has a value for each token.
        TypeError: If `conflicting` is not a sequence.

    Example:

    ```python
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model = kd.DebiasedModel(
        network, objective=kd.losses.GradientAlignment(conflicting=[1, 2])
    )
    ```

    Reference:
        [Zhao et al., 2021](https://arxiv.org/abs/2111.13108) and the
        authors' code.
    """

    needs_groups = True

    def __init__(self, conflicting, gamma=1.0, name=None):
        check_positive(gamma, "gamma")
        if isinstance(conflicting, str) or not hasattr(conflicting, "__iter__"):
            raise TypeError(
                "Expected `conflicting` to hold ids of groups. Received: "
                f"conflicting={conflicting!r}"
            )
        ids = list(conflicting)
        for each in ids:
            check_count(each, "conflicting", 0)
        ids = [int(i) for i in ids]
        if not ids or min(ids) < 0 or len(set(ids)) != len(ids):
            raise ValueError(
                "Expected `conflicting` to hold different ids of groups. "
                f"Received: conflicting={conflicting!r}"
            )
        super().__init__(name=name)
        self.conflicting = ids
        self.gamma = gamma

    def call(self, y_true, y_pred, losses, groups, index):
        values = ops.cast(losses(y_true, y_pred), "float32")
        check_row_losses(values, self)
        ids = ops.convert_to_tensor(self.conflicting, dtype=groups.dtype)
        against = ops.cast(
            ops.any(ops.equal(groups[:, None], ids[None, :]), axis=-1),
            "float32",
        )
        pull = 1 - ops.exp(-ops.stop_gradient(values))
        share = ops.sum(pull * against) / (
            self.gamma * ops.sum(pull * (1 - against)) + 1e-10
        )
        weights = against + (1 - against) * share
        rows = ops.cast(ops.shape(values)[0], "float32")
        return values * weights * (rows / (ops.sum(weights) + 1e-10))

    def get_config(self):
        return {
            "conflicting": self.conflicting,
            "gamma": self.gamma,
            "name": self.name,
        }
