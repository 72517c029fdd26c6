"""Objectives: functions of the per-sample losses of the compiled loss."""

from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.identity import identity
from keras_debias.losses.label_cross_entropy import LabelCrossEntropy

__all__ = ["GeneralizedCrossEntropy", "LabelCrossEntropy", "identity"]
