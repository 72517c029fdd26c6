"""Datasets: splits with groups, public datasets, and planted shortcuts."""

from keras_debias.data import sources
from keras_debias.data.balanced_sampler import BalancedSampler
from keras_debias.data.bias_injection import inject_token
from keras_debias.data.class_imbalance import subsample_classes
from keras_debias.data.colored_digits import colored_digits
from keras_debias.data.corrupted import corrupted
from keras_debias.data.curriculum_sampler import CurriculumSampler
from keras_debias.data.duplicates import duplicates
from keras_debias.data.example_csv import example_csv
from keras_debias.data.generated_nli import generated_nli
from keras_debias.data.generated_nli import generated_overlap
from keras_debias.data.groups import Groups
from keras_debias.data.image_files import ImageFiles
from keras_debias.data.low_data import low_data
from keras_debias.data.overlapping_groups import OverlappingGroups
from keras_debias.data.prompt_response import prompt_response
from keras_debias.data.sentences import sentences
from keras_debias.data.skew import skew
from keras_debias.data.sources import load
from keras_debias.data.split import Split
from keras_debias.data.stratified_batch_sampler import StratifiedBatchSampler
from keras_debias.data.waterbirds import waterbirds
from keras_debias.data.weighted_sampler import WeightedSampler

__all__ = [
    "BalancedSampler",
    "CurriculumSampler",
    "Groups",
    "ImageFiles",
    "OverlappingGroups",
    "Split",
    "StratifiedBatchSampler",
    "WeightedSampler",
    "colored_digits",
    "corrupted",
    "duplicates",
    "example_csv",
    "generated_nli",
    "generated_overlap",
    "inject_token",
    "load",
    "low_data",
    "prompt_response",
    "sentences",
    "skew",
    "sources",
    "subsample_classes",
    "waterbirds",
]
