import keras

from keras_debias.comparison.criterion import Criterion


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstClass(Criterion):
    """Accuracy of the worst class: needs no groups.

    Reference:
        [Yang et al., 2023](https://arxiv.org/abs/2302.12254) find it a good
        choice where no groups are known.
    """

    def score(self, predictions, split):
        right = predictions["label"] == predictions["prediction"]
        return float(right.groupby(predictions["label"]).mean().min())
