"""Trained functions of the inputs or outputs of a layer."""

from keras_debias.layers.transforms.bottleneck import Bottleneck
from keras_debias.layers.transforms.scaling import Scaling
from keras_debias.layers.transforms.transform import Transform

__all__ = ["Bottleneck", "Scaling", "Transform"]
