"""Features: what a frozen pretrained encoder computes of each row."""

from keras_debias.features.frozen_features import FrozenFeatures

__all__ = ["FrozenFeatures"]
