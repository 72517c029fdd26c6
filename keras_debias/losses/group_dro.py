import keras
from keras import ops

from keras_debias.losses.task_objective import TaskObjective
from keras_debias.losses.utils import check_count
from keras_debias.losses.utils import check_positive
from keras_debias.losses.utils import check_row_losses
from keras_debias.losses.utils import group_sums


@keras.saving.register_keras_serializable(package="keras_debias")
class GroupDRO(TaskObjective):
    """The loss of the worst group, by weights that follow the losses.

    Each group has a weight `q`. A step first multiplies it by
    `exp(step_size * L_g)`, with `L_g` the mean loss of the group's rows in
    the batch (0 if there are none), makes the weights sum to one, and then
    minimizes `sum_g q_g L_g`.

    Args:
        num_groups: int. Number of groups; ids go from 0 to `num_groups - 1`.
        step_size: float, above 0. Defaults to `0.01`.
        name: string. Defaults to `None`: made from the class name.

    Raises:
        ValueError: If an argument is out of range; in training, if the
            compiled loss has a value for each token.

    Example:

    ```python
    model = kd.DebiasedModel(
        network, objective=kd.losses.GroupDRO(len(train.groups.names))
    )
    ```

    Reference:
        [Sagawa et al., 2020](https://arxiv.org/abs/1911.08731), algorithm 1
        and the authors' code, without the generalization adjustment (their
        default). They draw groups equally often: see `recipes.GroupDRO`.
    """

    needs_groups = True

    def __init__(self, num_groups, step_size=0.01, name=None):
        check_count(num_groups, "num_groups", 2)
        check_positive(step_size, "step_size")
        super().__init__(name=name)
        self.num_groups = num_groups
        self.step_size = step_size
        self.group_weights = self.add_weight(
            name="group_weights",
            shape=(num_groups,),
            initializer=keras.initializers.Constant(1 / num_groups),
            trainable=False,
        )

    def check_rows(self, rows, groups):
        if groups is not None and groups.max() >= self.num_groups:
            raise ValueError(
                f"Expected groups from 0 to {self.num_groups - 1}, as "
                f"`GroupDRO({self.num_groups})` says. Received: a Split with "
                f"groups up to {groups.max()}. Pass the number of its groups, "
                "`len(train.groups.names)`."
            )

    def call(self, y_true, y_pred, losses, groups, index):
        values = ops.cast(losses(y_true, y_pred), "float32")
        check_row_losses(values, self)
        counts = group_sums(ops.ones_like(values), groups, self.num_groups)
        sums = group_sums(ops.stop_gradient(values), groups, self.num_groups)
        means = sums / ops.maximum(counts, 1.0)
        weights = self.group_weights * ops.exp(self.step_size * means)
        weights = weights / ops.sum(weights)
        self.group_weights.assign(weights)
        # The mean over rows of these is `sum_g q_g L_g`.
        rows = ops.cast(ops.shape(values)[0], "float32")
        of_group = rows * weights / ops.maximum(counts, 1.0)
        return ops.take(of_group, groups) * values

    def get_config(self):
        return {
            "num_groups": self.num_groups,
            "step_size": self.step_size,
            "name": self.name,
        }
