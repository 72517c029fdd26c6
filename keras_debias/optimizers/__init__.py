"""Optimizers for adapters."""

from keras_debias.optimizers.lora_plus import lora_plus

__all__ = ["lora_plus"]
