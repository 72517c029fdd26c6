"""Recipes: methods as one call, from training data to a trained model."""

from keras_debias.recipes.audit_cue import AuditCue
from keras_debias.recipes.balanced_sampling import BalancedSampling
from keras_debias.recipes.budget import Budget
from keras_debias.recipes.cross_mistakes import CrossMistakes
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.group_dro import GroupDRO
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.group_inference import agreement
from keras_debias.recipes.group_recipe import GroupRecipe
from keras_debias.recipes.jtt import JTT
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.token_cue import TokenCue
from keras_debias.recipes.trainer import Trainer

__all__ = [
    "AuditCue",
    "BalancedSampling",
    "Budget",
    "CrossMistakes",
    "FineTuning",
    "GroupDRO",
    "GroupInference",
    "GroupRecipe",
    "JTT",
    "Recipe",
    "TokenCue",
    "Trainer",
    "agreement",
]
