"""Recipes: methods as one call, from training data to a trained model."""

from keras_debias.recipes.ablation import Ablation
from keras_debias.recipes.afr import AFR
from keras_debias.recipes.audit_groups import AuditGroups
from keras_debias.recipes.bag_of_words import BagOfWords
from keras_debias.recipes.balanced_sampling import BalancedSampling
from keras_debias.recipes.budget import Budget
from keras_debias.recipes.class_labels import ClassLabels
from keras_debias.recipes.clusters import Clusters
from keras_debias.recipes.cnc import CNC
from keras_debias.recipes.co_trained_clusters import CoTrainedClusters
from keras_debias.recipes.counterfactual_inference import (
    CounterfactualInference,
)
from keras_debias.recipes.curriculum import Curriculum
from keras_debias.recipes.dfa import DFA
from keras_debias.recipes.dfr import DFR
from keras_debias.recipes.edge import EDGE
from keras_debias.recipes.finding_groups import FindingGroups
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.frozen_probe import FrozenProbe
from keras_debias.recipes.gradient_alignment import GradientAlignment
from keras_debias.recipes.grasp import grasp
from keras_debias.recipes.grasp_recipe import GRASP
from keras_debias.recipes.grasp_result import GraspResult
from keras_debias.recipes.group_dro import GroupDRO
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.group_inference import agreement
from keras_debias.recipes.group_recipe import GroupRecipe
from keras_debias.recipes.inverse_propensity_sampling import (
    InversePropensitySampling,
)
from keras_debias.recipes.jtt import JTT
from keras_debias.recipes.learned_mixin import LearnedMixin
from keras_debias.recipes.learning_from_failure import LearningFromFailure
from keras_debias.recipes.probe_hint import ProbeHint
from keras_debias.recipes.product_of_experts import ProductOfExperts
from keras_debias.recipes.published import published
from keras_debias.recipes.published_setting import PublishedSetting
from keras_debias.recipes.raked_sampling import RakedSampling
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.recommendation import Recommendation
from keras_debias.recipes.recommended import Recommended
from keras_debias.recipes.recommended import recommended
from keras_debias.recipes.reweighting import Reweighting
from keras_debias.recipes.shallow_hint import ShallowHint
from keras_debias.recipes.shallow_model import ShallowModel
from keras_debias.recipes.simple_features import SimpleFeatures
from keras_debias.recipes.trainer import Trainer
from keras_debias.recipes.truncation import Truncation
from keras_debias.recipes.xrm import XRM

__all__ = [
    "AFR",
    "CNC",
    "DFA",
    "DFR",
    "EDGE",
    "GRASP",
    "JTT",
    "XRM",
    "Ablation",
    "AuditGroups",
    "BagOfWords",
    "BalancedSampling",
    "Budget",
    "ClassLabels",
    "Clusters",
    "CoTrainedClusters",
    "CounterfactualInference",
    "Curriculum",
    "FindingGroups",
    "FineTuning",
    "FrozenProbe",
    "GradientAlignment",
    "GraspResult",
    "GroupDRO",
    "GroupInference",
    "GroupRecipe",
    "InversePropensitySampling",
    "LearnedMixin",
    "LearningFromFailure",
    "ProbeHint",
    "ProductOfExperts",
    "PublishedSetting",
    "RakedSampling",
    "Recipe",
    "Recommendation",
    "Recommended",
    "Reweighting",
    "ShallowHint",
    "ShallowModel",
    "SimpleFeatures",
    "Trainer",
    "Truncation",
    "agreement",
    "grasp",
    "published",
    "recommended",
]
