"""The training step on three backends; see README.md in this folder."""

from keras_debias.training.balance_regularizers import balance_regularizers
from keras_debias.training.debiased_model import DebiasedModel

__all__ = ["DebiasedModel", "balance_regularizers"]
