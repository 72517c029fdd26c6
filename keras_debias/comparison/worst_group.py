import keras

from keras_debias.comparison.criterion import Criterion


@keras.saving.register_keras_serializable(package="keras_debias")
class WorstGroup(Criterion):
    """Accuracy of the worst group: needs group labels of validation rows."""

    needs_groups = True

    def score(self, predictions, split):
        right = predictions["label"] == predictions["prediction"]
        return float(right.groupby(predictions["group"]).mean().min())
