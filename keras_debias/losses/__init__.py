"""Losses between the compiled loss's values and the gradient.

Objectives are functions of per-sample losses; a `TaskObjective` knows the
group and the index of each row as well.
"""

from keras_debias.losses.bias_weighted import BiasWeighted
from keras_debias.losses.correct_n_contrast import CorrectNContrast
from keras_debias.losses.feature_swap import FeatureSwap
from keras_debias.losses.focal import Focal
from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.gradient_alignment import GradientAlignment
from keras_debias.losses.group_dro import GroupDRO
from keras_debias.losses.identity import identity
from keras_debias.losses.label_cross_entropy import LabelCrossEntropy
from keras_debias.losses.learned_mixin import LearnedMixin
from keras_debias.losses.per_row import PerRow
from keras_debias.losses.product_of_experts import ProductOfExperts
from keras_debias.losses.relative_difficulty import RelativeDifficulty
from keras_debias.losses.task_objective import TaskObjective

__all__ = [
    "BiasWeighted",
    "CorrectNContrast",
    "FeatureSwap",
    "Focal",
    "GeneralizedCrossEntropy",
    "GradientAlignment",
    "GroupDRO",
    "LabelCrossEntropy",
    "LearnedMixin",
    "PerRow",
    "ProductOfExperts",
    "RelativeDifficulty",
    "TaskObjective",
    "identity",
]
