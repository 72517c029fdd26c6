"""Features: vectors that a frozen pretrained encoder computes."""

from keras_debias.features.frozen_features import FrozenFeatures

__all__ = ["FrozenFeatures"]
