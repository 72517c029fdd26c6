"""Optimizers for adapters, and learning rate schedules."""

from keras_debias.optimizers.galore import galore
from keras_debias.optimizers.lora_plus import lora_plus
from keras_debias.optimizers.warm_up import WarmUp

__all__ = ["WarmUp", "galore", "lora_plus"]
