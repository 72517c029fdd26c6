"""Regularizers of a model's outputs, added to the update of each step."""

from keras_debias.regularizers.ba_lora import ba_lora
from keras_debias.regularizers.consistency import Consistency
from keras_debias.regularizers.diversity import Diversity
from keras_debias.regularizers.label_balance import LabelBalance
from keras_debias.regularizers.label_discrimination import LabelDiscrimination
from keras_debias.regularizers.label_propensity import LabelPropensity
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.regularizers.spectral_concentration import (
    SpectralConcentration,
)
from keras_debias.regularizers.spectral_norm import SpectralNorm
from keras_debias.regularizers.teacher_cache import TeacherCache
from keras_debias.regularizers.top_k_entropy import TopKEntropy
from keras_debias.regularizers.two_phase import TwoPhase

__all__ = [
    "Consistency",
    "Diversity",
    "LabelBalance",
    "LabelDiscrimination",
    "LabelPropensity",
    "Regularizer",
    "SpectralConcentration",
    "SpectralNorm",
    "TeacherCache",
    "TopKEntropy",
    "TwoPhase",
    "ba_lora",
]
