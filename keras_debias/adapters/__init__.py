"""Adapters: small trainable changes to some layers of a model."""

from keras_debias.adapters import own_vector  # noqa: F401, known by its name
from keras_debias.adapters.adalora import AdaLoRA
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.all_biases import AllBiases
from keras_debias.adapters.apply import apply
from keras_debias.adapters.bias_forms import BiasForm
from keras_debias.adapters.bias_forms import DoRABias
from keras_debias.adapters.bias_forms import LoRABias
from keras_debias.adapters.bias_forms import PiSSABias
from keras_debias.adapters.bias_forms import VectorBias
from keras_debias.adapters.bias_forms import VeRABias
from keras_debias.adapters.bias_forms import VeRAScalarBias
from keras_debias.adapters.corda import CorDA
from keras_debias.adapters.dora import DoRA
from keras_debias.adapters.export_peft import export_peft
from keras_debias.adapters.export_transformers import export_transformers
from keras_debias.adapters.houlsby import Houlsby
from keras_debias.adapters.ia3 import IA3
from keras_debias.adapters.key_bias import KeyBias
from keras_debias.adapters.loftq import LoftQ
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.lora_fa import LoRAFA
from keras_debias.adapters.loraga import LoRAGA
from keras_debias.adapters.merge import disabled
from keras_debias.adapters.merge import merge
from keras_debias.adapters.milora import MiLoRA
from keras_debias.adapters.olora import OLoRA
from keras_debias.adapters.pfeiffer import Pfeiffer
from keras_debias.adapters.pissa import PiSSA
from keras_debias.adapters.prefix_tuning import PrefixTuning
from keras_debias.adapters.prompt_tuning import PromptTuning
from keras_debias.adapters.query_bias import QueryBias
from keras_debias.adapters.random_entries import RandomEntries
from keras_debias.adapters.selection import ALL_LINEAR
from keras_debias.adapters.store import load
from keras_debias.adapters.store import save
from keras_debias.adapters.summary import TrainableSummary
from keras_debias.adapters.summary import summary
from keras_debias.adapters.target_layer import TargetLayer
from keras_debias.adapters.value_bias import ValueBias
from keras_debias.adapters.vera import VeRA

__all__ = [
    "ALL_LINEAR",
    "IA3",
    "AdaLoRA",
    "Adapter",
    "AllBiases",
    "BiasForm",
    "CorDA",
    "DoRA",
    "DoRABias",
    "Houlsby",
    "KeyBias",
    "LoRA",
    "LoRABias",
    "LoRAFA",
    "LoRAGA",
    "LoftQ",
    "MiLoRA",
    "OLoRA",
    "Pfeiffer",
    "PiSSA",
    "PiSSABias",
    "PrefixTuning",
    "PromptTuning",
    "QueryBias",
    "RandomEntries",
    "TargetLayer",
    "TrainableSummary",
    "ValueBias",
    "VeRA",
    "VeRABias",
    "VeRAScalarBias",
    "VectorBias",
    "apply",
    "disabled",
    "export_peft",
    "export_transformers",
    "load",
    "merge",
    "save",
    "summary",
]
