"""The training step on three backends; see README.md in this folder."""

from keras_debias.training.calibrate import calibrate
from keras_debias.training.debiased_model import DebiasedModel

__all__ = ["DebiasedModel", "calibrate"]
