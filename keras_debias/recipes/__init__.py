"""Several stages of fine-tuning as one call."""

from keras_debias.recipes.grasp import grasp
from keras_debias.recipes.grasp_result import GraspResult

__all__ = ["GraspResult", "grasp"]
