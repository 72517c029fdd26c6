"""Comparison: methods x seeds under equal budgets, as one table."""

from keras_debias.comparison.average import Average
from keras_debias.comparison.biased_disagreement import BiasedDisagreement
from keras_debias.comparison.compare import compare
from keras_debias.comparison.comparison import Comparison
from keras_debias.comparison.criterion import Criterion
from keras_debias.comparison.metric_criterion import MetricCriterion
from keras_debias.comparison.run import Run
from keras_debias.comparison.worst_cell import WorstCell
from keras_debias.comparison.worst_class import WorstClass
from keras_debias.comparison.worst_group import WorstGroup

__all__ = [
    "Average",
    "BiasedDisagreement",
    "Comparison",
    "Criterion",
    "MetricCriterion",
    "Run",
    "WorstCell",
    "WorstClass",
    "WorstGroup",
    "compare",
]
