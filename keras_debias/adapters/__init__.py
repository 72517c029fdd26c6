"""Adapters: small changes to some layers of a model, which train."""

from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.apply import apply
from keras_debias.adapters.lora import LoRA
from keras_debias.adapters.merge import disabled
from keras_debias.adapters.merge import merge
from keras_debias.adapters.pissa import PiSSA
from keras_debias.adapters.store import load
from keras_debias.adapters.store import save
from keras_debias.adapters.summary import TrainableSummary
from keras_debias.adapters.summary import summary

__all__ = [
    "Adapter",
    "LoRA",
    "PiSSA",
    "TrainableSummary",
    "apply",
    "disabled",
    "load",
    "merge",
    "save",
    "summary",
]
