"""The forms in which the update of a kernel trains."""

from keras_debias.layers.kernel_forms.adalora_kernel import AdaLoRAKernel
from keras_debias.layers.kernel_forms.dora_kernel import DoRAKernel
from keras_debias.layers.kernel_forms.entries_kernel import EntriesKernel
from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight
from keras_debias.layers.kernel_forms.loftq_kernel import LoftQKernel
from keras_debias.layers.kernel_forms.lora_kernel import LoRAKernel
from keras_debias.layers.kernel_forms.started_kernel import StartedKernel
from keras_debias.layers.kernel_forms.vera_kernel import VeRAKernel

__all__ = [
    "AdaLoRAKernel",
    "DoRAKernel",
    "EntriesKernel",
    "KernelForm",
    "LoRAKernel",
    "LoftQKernel",
    "StartedKernel",
    "VeRAKernel",
    "Weight",
]
