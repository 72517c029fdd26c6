import keras


class TaskObjective(keras.layers.Layer):
    """Base class of what the task minimizes, row by row.

    The compiled loss gives one value a row, and the mean over rows is the
    task's loss. An objective stands between the two and knows more than the
    loss does: the group and the index of each row. A subclass overrides one
    method, `call`. Its state are weights, made in the constructor with
    `add_weight`: trainable ones train along with the network, others may be
    assigned to in `call`, and both are saved with the model.

    It acts in training only. What projections and regularizers ask for is
    computed from the losses as they are.

    Args:
        name: string. Defaults to `None`: made from the class name.

    Example:

    ```python
    class Capped(kd.losses.TaskObjective):
        def call(self, y_true, y_pred, losses, groups, index):
            return ops.minimum(losses(y_true, y_pred), 5.0)

    model = kd.DebiasedModel(network, objective=Capped())
    ```
    """

    needs_groups = False
    needs_index = False

    def __init__(self, name=None):
        # Autocasting would round labels and row indices.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.built = True

    def check_rows(self, rows: int, groups) -> None:
        """Raises unless the objective fits the training data.

        Args:
            rows: int. How many rows there are.
            groups: int array `(rows,)` of group ids, or `None`.
        """

    def call(self, y_true, y_pred, losses, groups, index):
        """The values to average over the rows.

        Args:
            y_true: tensor of labels of the batch.
            y_pred: tensor of outputs of the network.
            losses: function `(y_true, y_pred)` to the values of the compiled
                loss, a tensor of shape `(rows,)`.
            groups: int tensor `(rows,)`, or `None`.
            index: int tensor `(rows,)`: which row of the training data each
                one is, or `None`.

        Returns:
            A tensor of shape `(rows,)`.
        """
        return losses(y_true, y_pred)
