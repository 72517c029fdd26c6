from collections.abc import Sequence

import keras
import numpy as np

from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.criterion import row_weights


@keras.saving.register_keras_serializable(package="keras_debias")
class BiasedDisagreement(Criterion):
    """Accuracy on the validation rows that a biased model gets wrong.

    Needs no groups. What a biased model gets wrong is where its shortcut
    misleads, so a model that is right there does without it. Rows that are
    merely hard are among them, so accurate models score higher as well.

    Args:
        biased: sequence of the biased model's predictions, one a validation
            row: label names, or classes as integers where labels have no
            names. For instance from `kd.recipes.BagOfWords`.

    Raises:
        ValueError: If there are no predictions; in `score`, if the number of
            rows differs, or the biased model gets no row wrong.
        TypeError: If `biased` is not a sequence.

    Example:

    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": ["no", "no", "yes", "yes"],
    ...         "prediction": ["no", "yes", "yes", "yes"],
    ...         "group": ["a", "b", "a", "b"],
    ...     }
    ... )
    >>> criterion = BiasedDisagreement(["no", "no", "no", "no"])
    >>> criterion.score(predictions, None)
    1.0
    """

    def __init__(self, biased: Sequence):
        if isinstance(biased, (str, bytes)) or not np.iterable(biased):
            raise TypeError(
                "Expected `biased` to be a sequence of predictions, one a "
                f"validation row. Received: biased={biased!r}"
            )
        self.biased = np.asarray([str(value) for value in biased])
        if not len(self.biased):
            raise ValueError(
                "Expected at least one prediction of the biased model. "
                "Received: none"
            )

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
        weight = row_weights(predictions)[wrong]
        return float(np.average(right[wrong], weights=weight))

    def get_config(self):
        return {"biased": self.biased.tolist()}

    def __repr__(self):
        return f"BiasedDisagreement({len(self.biased)} rows)"
