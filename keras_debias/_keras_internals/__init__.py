"""The only package that touches private attributes of Keras.

Checked with Keras 3.15 and KerasHub 0.32. Each function says which private
name it uses and why no public one serves. What a backend needs in its own form
outside of the training step is in `backends.py`.
"""

from keras_debias._keras_internals.attention import AttendsToMore
from keras_debias._keras_internals.attention import attention_arguments
from keras_debias._keras_internals.attention import rotary_embedding
from keras_debias._keras_internals.backends import map_chunks
from keras_debias._keras_internals.backends import with_gradient
from keras_debias._keras_internals.dropout import seeded_dropout
from keras_debias._keras_internals.hub_importers import hub_import_map
from keras_debias._keras_internals.layers import child_layers
from keras_debias._keras_internals.layers import current_values
from keras_debias._keras_internals.layers import flatten_layers
from keras_debias._keras_internals.layers import forget
from keras_debias._keras_internals.layers import get_keras_mask
from keras_debias._keras_internals.layers import has_value
from keras_debias._keras_internals.layers import is_rematerialized
from keras_debias._keras_internals.layers import own_non_trainable_variables
from keras_debias._keras_internals.layers import own_trainable_variables
from keras_debias._keras_internals.layers import remember
from keras_debias._keras_internals.layers import remove_seed_generator
from keras_debias._keras_internals.layers import remove_weight
from keras_debias._keras_internals.layers import set_keras_mask
from keras_debias._keras_internals.layers import swap_class
from keras_debias._keras_internals.layers import without_autocast
from keras_debias._keras_internals.optimizers import SmallerState
from keras_debias._keras_internals.optimizers import TwoRates
from keras_debias._keras_internals.optimizers import keep_exclusions
from keras_debias._keras_internals.optimizers import updates_weights_alone
from keras_debias._keras_internals.optimizers import variable_index
from keras_debias._keras_internals.quantization import base_variables
from keras_debias._keras_internals.quantization import dequantized_kernel
from keras_debias._keras_internals.quantization import kernel_shape
from keras_debias._keras_internals.quantization import quantized_product
from keras_debias._keras_internals.saving import FilePart
from keras_debias._keras_internals.saving import register_as
from keras_debias._keras_internals.training import additional_loss
from keras_debias._keras_internals.training import build_loss
from keras_debias._keras_internals.training import compile_loss
from keras_debias._keras_internals.training import compiled_loss_arguments
from keras_debias._keras_internals.training import compiled_metrics
from keras_debias._keras_internals.training import drop_compiled_functions
from keras_debias._keras_internals.training import loss_options
from keras_debias._keras_internals.training import loss_tracker
from keras_debias._keras_internals.training import own_metrics
from keras_debias._keras_internals.training import require_compiled
from keras_debias._keras_internals.training import resolve_loss
from keras_debias._keras_internals.training import start_at_epoch
from keras_debias._keras_internals.training import training_loss

__all__ = [
    "AttendsToMore",
    "FilePart",
    "SmallerState",
    "TwoRates",
    "additional_loss",
    "attention_arguments",
    "base_variables",
    "build_loss",
    "child_layers",
    "compile_loss",
    "compiled_loss_arguments",
    "compiled_metrics",
    "current_values",
    "dequantized_kernel",
    "drop_compiled_functions",
    "flatten_layers",
    "forget",
    "get_keras_mask",
    "has_value",
    "hub_import_map",
    "is_rematerialized",
    "keep_exclusions",
    "kernel_shape",
    "loss_options",
    "loss_tracker",
    "map_chunks",
    "own_metrics",
    "own_non_trainable_variables",
    "own_trainable_variables",
    "quantized_product",
    "register_as",
    "remember",
    "remove_seed_generator",
    "remove_weight",
    "require_compiled",
    "resolve_loss",
    "rotary_embedding",
    "seeded_dropout",
    "set_keras_mask",
    "start_at_epoch",
    "swap_class",
    "training_loss",
    "updates_weights_alone",
    "variable_index",
    "with_gradient",
    "without_autocast",
]
