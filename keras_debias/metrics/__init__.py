"""Metrics: by name, of functions, and by group."""

from keras_debias.metrics.get import get
from keras_debias.metrics.group_accuracy import accuracy_gap
from keras_debias.metrics.group_accuracy import group_accuracy
from keras_debias.metrics.group_accuracy import weighted_group_accuracy
from keras_debias.metrics.group_accuracy import worst_group
from keras_debias.metrics.metric import Metric

__all__ = [
    "Metric",
    "accuracy_gap",
    "get",
    "group_accuracy",
    "weighted_group_accuracy",
    "worst_group",
]
