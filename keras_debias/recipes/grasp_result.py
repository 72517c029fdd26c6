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

    Example:

    ```python
    network = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu", name="query"),
            keras.layers.Dense(2, name="head"),
        ]
    )
    result = kd.grasp(
        network,
        kd.adapters.LoRA(rank=2, targets="query"),
        np.eye(4, dtype="float32"),
        np.array([0, 0, 1, 1]),
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        directions=kd.Directions(np.eye(4)[:, :1]),  # the first input
        also_train="head",
        verbose=0,
    )
    result.history.history["loss"]
    ```
    """

    model: DebiasedModel
    directions: Directions
    spectrum: UpdateSpectrum | None
    naive_history: keras.callbacks.History | None
    history: keras.callbacks.History
