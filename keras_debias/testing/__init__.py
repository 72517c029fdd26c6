"""Contract tests: what every adapter and every projection must keep."""

from keras_debias.testing.test_case import TestCase

__all__ = ["TestCase"]
