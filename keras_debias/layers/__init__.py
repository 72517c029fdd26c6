"""Keras layers that the adapters put in place, usable alone."""

from keras_debias.layers.lora_dense import LoRADense
from keras_debias.layers.lora_einsum_dense import LoRAEinsumDense

__all__ = ["LoRADense", "LoRAEinsumDense"]
