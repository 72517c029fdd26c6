"""Keras callbacks that log, stop, freeze and resume."""

from keras_debias.callbacks.backup_and_restore import BackupAndRestore
from keras_debias.callbacks.bias_term_tracking import BiasTermTracking
from keras_debias.callbacks.gradient_cosine import GradientCosine
from keras_debias.callbacks.ood_evaluation import OODEvaluation
from keras_debias.callbacks.rank_allocator import RankAllocator
from keras_debias.callbacks.target_layer_freezing import TargetLayerFreezing
from keras_debias.callbacks.validation_criterion import ValidationCriterion

__all__ = [
    "BackupAndRestore",
    "BiasTermTracking",
    "GradientCosine",
    "OODEvaluation",
    "RankAllocator",
    "TargetLayerFreezing",
    "ValidationCriterion",
]
