import dataclasses

import keras

from keras_debias.analysis.update_spectrum import UpdateSpectrum
from keras_debias.directions import Directions
from keras_debias.training import DebiasedModel
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class GraspResult(ShortRepr):
    """What `grasp` returns.

    Attributes:
        model: `DebiasedModel`, after the second stage.
        directions: `Directions` that it was kept from.
        spectrum: `UpdateSpectrum` of the first stage; `None` when directions
            were given.
        naive_history: `keras.callbacks.History` of the first stage; `None`
            when it was not run.
        history: `keras.callbacks.History` of the second stage.
    """

    model: DebiasedModel
    directions: Directions
    spectrum: UpdateSpectrum | None
    naive_history: keras.callbacks.History | None
    history: keras.callbacks.History
