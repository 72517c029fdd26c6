"""Keras layers with an adapter, for your own models."""

from keras_debias.layers.dora_dense import DoRADense
from keras_debias.layers.dora_einsum_dense import DoRAEinsumDense
from keras_debias.layers.lora_dense import LoRADense
from keras_debias.layers.lora_einsum_dense import LoRAEinsumDense
from keras_debias.layers.pissa_dense import PiSSADense
from keras_debias.layers.pissa_einsum_dense import PiSSAEinsumDense
from keras_debias.layers.refine import Refine
from keras_debias.layers.value_bias import ValueBias

__all__ = [
    "DoRADense",
    "DoRAEinsumDense",
    "LoRADense",
    "LoRAEinsumDense",
    "PiSSADense",
    "PiSSAEinsumDense",
    "Refine",
    "ValueBias",
]
