"""How a bias is parametrized while it trains."""

from keras_debias.adapters.bias_forms.bias_form import BiasForm
from keras_debias.adapters.bias_forms.dora_bias import DoRABias
from keras_debias.adapters.bias_forms.lora_bias import LoRABias
from keras_debias.adapters.bias_forms.pissa_bias import PiSSABias
from keras_debias.adapters.bias_forms.vector_bias import VectorBias
from keras_debias.adapters.bias_forms.vera_bias import VeRABias
from keras_debias.adapters.bias_forms.vera_scalar_bias import VeRAScalarBias

__all__ = [
    "BiasForm",
    "DoRABias",
    "LoRABias",
    "PiSSABias",
    "VeRABias",
    "VeRAScalarBias",
    "VectorBias",
]
