import keras
import numpy as np
import pandas as pd

from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights
from keras_debias.data.arguments import check_int
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import counted_groups


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstGroup(Criterion):
    """Accuracy of the worst group: needs group labels of validation rows.

    Args:
        min_group_size: int. As for `kd.evaluate`, groups of fewer rows
            cannot be the worst, unless all are smaller. Defaults to `10`.

    Example:

    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": ["no", "no", "yes", "yes"],
    ...         "prediction": ["no", "yes", "yes", "yes"],
    ...         "group": ["a", "b", "a", "b"],
    ...     }
    ... )
    >>> WorstGroup().score(predictions, None)
    0.5
    """

    needs_groups = True

    def __init__(self, min_group_size: int = MIN_GROUP_SIZE):
        self.min_group_size = check_int("min_group_size", min_group_size, 1)

    def score(self, predictions, split):
        right = (predictions["label"] == predictions["prediction"]).to_numpy()
        weight = row_weights(predictions)
        if split is None or split.groups is None:
            codes, _ = pd.factorize(predictions["group"])
            members = codes[:, None] == np.arange(codes.max() + 1)
        else:
            members = split.groups.members()
        counted = counted_groups(members.sum(axis=0), self.min_group_size)
        totals = weight @ members
        counted &= totals > 0
        hits = (weight * right) @ members
        return float((hits[counted] / totals[counted]).min())

    def get_config(self):
        return {"min_group_size": self.min_group_size}
