"""Metrics by group."""

from keras_debias.metrics.group_accuracy import accuracy_gap
from keras_debias.metrics.group_accuracy import group_accuracy
from keras_debias.metrics.group_accuracy import weighted_group_accuracy
from keras_debias.metrics.group_accuracy import worst_group

__all__ = [
    "accuracy_gap",
    "group_accuracy",
    "weighted_group_accuracy",
    "worst_group",
]
