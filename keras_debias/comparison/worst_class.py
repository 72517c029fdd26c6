import keras
import pandas as pd

from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstClass(Criterion):
    """Accuracy of the worst class: needs no groups.

    Reference:
        [Yang et al., 2023](https://arxiv.org/abs/2302.12254) find it a good
        choice where no groups are known.
    """

    def score(self, predictions, split):
        right = (predictions["label"] == predictions["prediction"]).to_numpy()
        weight = row_weights(predictions)
        names = predictions["label"]
        hits = pd.Series(right * weight).groupby(names.to_numpy()).sum()
        totals = pd.Series(weight).groupby(names.to_numpy()).sum()
        return float((hits / totals)[totals > 0].min())
