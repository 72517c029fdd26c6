"""Evaluation: predict once, report overall, per group and worst group."""

from keras_debias.evaluation.answers import answer_accuracy
from keras_debias.evaluation.answers import answer_nll
from keras_debias.evaluation.calibration import CONTENT_FREE
from keras_debias.evaluation.calibration import calibrated_scores
from keras_debias.evaluation.calibration import domain_texts
from keras_debias.evaluation.drift import Drift
from keras_debias.evaluation.drift import drift
from keras_debias.evaluation.drift import log_likelihoods
from keras_debias.evaluation.drift import word_mass
from keras_debias.evaluation.evaluate import evaluate
from keras_debias.evaluation.label_report import LabelReport
from keras_debias.evaluation.label_report import label_report
from keras_debias.evaluation.label_report import tune_threshold
from keras_debias.evaluation.metric_score import MetricScore
from keras_debias.evaluation.perplexity import perplexity
from keras_debias.evaluation.plot import plot_comparison
from keras_debias.evaluation.plot_history import plot_history
from keras_debias.evaluation.reliance import Reliance
from keras_debias.evaluation.reliance import reliance
from keras_debias.evaluation.representation import Representation
from keras_debias.evaluation.representation import plot_features
from keras_debias.evaluation.representation import representation
from keras_debias.evaluation.scores import GroupScore
from keras_debias.evaluation.scores import Scores
from keras_debias.evaluation.scores import SplitScore
from keras_debias.evaluation.table import comparison_table

__all__ = [
    "CONTENT_FREE",
    "Drift",
    "GroupScore",
    "LabelReport",
    "MetricScore",
    "Reliance",
    "Representation",
    "Scores",
    "SplitScore",
    "answer_accuracy",
    "answer_nll",
    "calibrated_scores",
    "comparison_table",
    "domain_texts",
    "drift",
    "evaluate",
    "label_report",
    "log_likelihoods",
    "perplexity",
    "plot_comparison",
    "plot_features",
    "plot_history",
    "reliance",
    "representation",
    "tune_threshold",
    "word_mass",
]
