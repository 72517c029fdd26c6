"""Evaluation: predict once, report overall, per group and worst group."""

from keras_debias.evaluation.evaluate import evaluate
from keras_debias.evaluation.plot import plot_comparison
from keras_debias.evaluation.scores import GroupScore
from keras_debias.evaluation.scores import Scores
from keras_debias.evaluation.scores import SplitScore
from keras_debias.evaluation.table import comparison_table

__all__ = [
    "GroupScore",
    "Scores",
    "SplitScore",
    "comparison_table",
    "evaluate",
    "plot_comparison",
]
