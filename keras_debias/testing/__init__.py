"""Contract tests that every method must pass, including your own."""

from keras_debias.testing.check_adapter import check_adapter
from keras_debias.testing.check_group_inference import check_group_inference
from keras_debias.testing.check_projection import check_projection
from keras_debias.testing.check_recipe import check_recipe
from keras_debias.testing.check_regularizer import check_regularizer
from keras_debias.testing.test_case import TestCase

__all__ = [
    "TestCase",
    "check_adapter",
    "check_group_inference",
    "check_projection",
    "check_recipe",
    "check_regularizer",
]
