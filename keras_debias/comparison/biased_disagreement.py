from collections.abc import Sequence

import keras
import numpy as np

from keras_debias.comparison.criterion import Criterion


@keras.saving.register_keras_serializable(package="keras_debias")
class BiasedDisagreement(Criterion):
    """Accuracy on the validation rows that a biased model gets wrong.

    Needs no groups. What a biased model gets wrong is where its shortcut
    misleads, so a model that is right there does without it. Rows that are
    merely hard are among them, which favours accurate models as well.

    Args:
        biased: sequence of the biased model's predictions, one a validation
            row: label names, or classes as integers where labels have no
            names. For instance of `kd.recipes.BagOfWords`.

    Raises:
        ValueError: In `score`, if the number of rows differs, or the biased
            model gets no row wrong.
    """

    def __init__(self, biased: Sequence):
        self.biased = np.asarray([str(value) for value in biased])

    def score(self, predictions, split):
        if len(self.biased) != len(predictions):
            raise ValueError(
                "Expected one prediction of the biased model a validation "
                f"row ({len(predictions)}). Received: {len(self.biased)}"
            )
        labels = predictions["label"].astype(str).to_numpy()
        wrong = labels != self.biased
        if not wrong.any():
            raise ValueError(
                "Expected a biased model that gets some validation rows "
                f"wrong. Received: all {len(labels)} right"
            )
        right = labels == predictions["prediction"].astype(str).to_numpy()
        return float(right[wrong].mean())

    def get_config(self):
        return {"biased": self.biased.tolist()}

    def __repr__(self):
        return f"BiasedDisagreement({len(self.biased)} rows)"
