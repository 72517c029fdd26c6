"""Losses between the compiled loss's values and the gradient.

Objectives are functions of per-sample losses; a `TaskObjective` knows the
group and the index of each row as well.
"""

from keras_debias.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
)
from keras_debias.losses.group_dro import GroupDRO
from keras_debias.losses.identity import identity
from keras_debias.losses.task_objective import TaskObjective

__all__ = ["GeneralizedCrossEntropy", "GroupDRO", "TaskObjective", "identity"]
