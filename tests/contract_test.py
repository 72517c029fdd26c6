"""Every adapter, on every architecture, through the model's own `fit`.

The references are outputs after ten steps; `python -m tests.contract_test`
writes them anew (only after a change that is meant to move them).
"""

import functools
import pathlib
import sys

import keras
import numpy as np
import pytest

from keras_debias.adapters import IA3
from keras_debias.adapters import AdaLoRA
from keras_debias.adapters import AllBiases
from keras_debias.adapters import CorDA
from keras_debias.adapters import DoRA
from keras_debias.adapters import Houlsby
from keras_debias.adapters import LoRA
from keras_debias.adapters import LoRAFA
from keras_debias.adapters import LoRAGA
from keras_debias.adapters import MiLoRA
from keras_debias.adapters import OLoRA
from keras_debias.adapters import Pfeiffer
from keras_debias.adapters import PiSSA
from keras_debias.adapters import PrefixTuning
from keras_debias.adapters import PromptTuning
from keras_debias.adapters import RandomEntries
from keras_debias.adapters import TargetLayer
from keras_debias.adapters import ValueBias
from keras_debias.adapters import VeRA
from keras_debias.adapters import apply
from keras_debias.adapters.selection import layer_paths
from keras_debias.testing import TestCase
from tests import matrix
from tests.architectures import ARCHITECTURES

REFERENCES = pathlib.Path(__file__).parent / "reference"
NAMES = [a.name for a in ARCHITECTURES]
# Their attention has no value bias, and no output bias either.
BIAS_FREE = {
    *("gemma", "gemma2", "gemma3", "llama", "mistral", "qwen3", "t5"),
}
# A row for each low-rank method: the adapter, and the weights that train.
LOW_RANK = {
    "LoRA": (LoRA, ("lora_a", "lora_b")),
    "PiSSA": (PiSSA, ("lora_a", "lora_b")),
    "DoRA": (DoRA, ("lora_a", "lora_b", "lora_magnitude")),
    "LoRAFA": (LoRAFA, ("lora_b",)),
    "VeRA": (VeRA, ("vera_lambda_d", "vera_lambda_b")),
    "MiLoRA": (MiLoRA, ("lora_a", "lora_b")),
    "OLoRA": (OLoRA, ("lora_a", "lora_b")),
    "AdaLoRA": (AdaLoRA, ("lora_a", "lora_e", "lora_b")),
    # Of the components that matter most: small ones are those of rounding.
    "CorDA": (
        functools.partial(CorDA, preserve_knowledge=False),
        ("lora_a", "lora_b"),
    ),
    "LoRAGA": (LoRAGA, ("lora_a", "lora_b")),
    "RandomEntries": (
        lambda rank, targets: RandomEntries(8 * rank, targets),
        ("entries",),
    ),
}
# What trains in the second block: the block, and the kernels in it.
_ENCODER = (
    "transformer_layer_1",
    "transformer_layer_1/self_attention_layer/attention_output",
    "transformer_layer_1/feedforward_output_dense",
)
_DECODER = (
    "transformer_layer_1",
    "transformer_layer_1/self_attention/attention_output",
    "transformer_layer_1/feedforward_output_dense",
)
_GEMMA = (
    "decoder_block_1",
    "decoder_block_1/attention/attention_output",
    "decoder_block_1/ffw_linear",
)
SECOND_BLOCK = {
    **dict.fromkeys(
        ("bert", "bert_text", "roberta", "distil_bert", "xlm_roberta"), _ENCODER
    ),
    "deberta_v3": tuple(
        path.replace("transformer", "disentangled_attention_encoder")
        for path in _ENCODER
    ),
    **dict.fromkeys(
        ("gpt2", "opt", "llama", "mistral", "qwen2", "qwen3"), _DECODER
    ),
    **dict.fromkeys(("gemma", "gemma2", "gemma3"), _GEMMA),
    "t5": (
        "transformer_encoder_layer_1",
        "transformer_encoder_layer_1/self_attention/output_projector",
        "transformer_encoder_layer_1/output_projector",
    ),
    "vit": (
        "vit_encoder/transformer_block_2",
        "vit_encoder/transformer_block_2/mha/attention_output",
        "vit_encoder/transformer_block_2/mlp/dense_1",
    ),
}


BOTTLENECKS = {"Houlsby": Houlsby, "Pfeiffer": Pfeiffer}
BOTTLENECK_WEIGHTS = tuple(
    f"bottleneck_{name}" for name in ("down", "down_bias", "up", "up_bias")
)


def both_blocks(architecture, module):
    """The paths of a module of all blocks, given that of the second."""
    first = {"vit": "_1/"}.get(architecture.name, "_0/")
    second = {"vit": "_2/"}.get(architecture.name, "_1/")
    path = SECOND_BLOCK[architecture.name][module]
    found = {path, path.replace(second, first, 1)}
    if architecture.name == "t5":
        found |= {path.replace("encoder", "decoder") for path in found}
    return found


def reference_of(architecture, adapter):
    path = REFERENCES / f"{architecture.name}-{adapter}.npy"
    return np.load(path) if path.exists() else None


def create(architecture, adapter):
    if adapter == "ValueBias":
        return ValueBias()
    if adapter == "AllBiases":
        return AllBiases()
    if adapter == "TargetLayer":
        return TargetLayer(1)
    if adapter == "IA3":
        return IA3()
    if adapter == "PrefixTuning":
        return PrefixTuning(3)
    if adapter == "PromptTuning":
        return PromptTuning(3)
    if adapter in BOTTLENECKS:
        own = architecture.name == "functional"
        return BOTTLENECKS[adapter](3, targets="output_*" if own else None)
    low_rank, _ = LOW_RANK[adapter]
    return low_rank(rank=2, targets=architecture.targets)


def trained_by(architecture, adapter):
    """The paths of the weights that the adapter is to train."""
    if adapter == "ValueBias":
        name = "value_bias" if architecture.name in BIAS_FREE else "bias"
        return {
            f"{path}/{name}"
            for path in architecture.target_paths
            if "value" in path.rsplit("/", 1)[-1]
        }
    if adapter == "AllBiases":
        return all_biases(architecture)
    if adapter == "TargetLayer":
        block, *kernels = SECOND_BLOCK[architecture.name]
        return {f"{block}/refine", *(f"{path}/kernel" for path in kernels)}
    if adapter == "IA3":
        values = {p for p in architecture.target_paths if "value" in p}
        scaled = values | {path.replace("value", "key") for path in values}
        if architecture.name in SECOND_BLOCK:
            scaled |= both_blocks(architecture, 2)
        return {f"{path}/ia3_scale" for path in scaled}
    if adapter == "PrefixTuning":
        attentions = {p.rsplit("/", 1)[0] for p in architecture.target_paths}
        names = ("prefix_key", "prefix_value")
        return {f"{path}/{name}" for path in attentions for name in names}
    if adapter == "PromptTuning":
        block = SECOND_BLOCK[architecture.name][0]
        return {f"{block.replace('_1', '_0')}/prompt"}
    if adapter in BOTTLENECKS:
        if architecture.name == "functional":
            behind = {"output_0", "output_1"}
        else:
            behind = both_blocks(architecture, 2)
            if adapter == "Houlsby":
                behind |= both_blocks(architecture, 1)
        return {f"{p}/{name}" for p in behind for name in BOTTLENECK_WEIGHTS}
    _, names = LOW_RANK[adapter]
    return {
        f"{path}/{name}" for path in architecture.target_paths for name in names
    }


def all_biases(architecture):
    """Each additive term, and one for each dense layer without."""
    found = set()
    for path, layer in layer_paths(architecture.build()).items():
        for attribute in ("bias", "beta"):
            if isinstance(getattr(layer, attribute, None), keras.Variable):
                found.add(f"{path}/{attribute}")
        if type(layer) in (keras.layers.Dense, keras.layers.EinsumDense):
            if layer.bias is None:
                found.add(f"{path}/injected_bias")
    return found - set(architecture.head)


def can_merge(architecture, expected):
    """Whether all that trains has a place in the plain architecture."""
    if any(
        p.endswith(
            (
                *("value_bias", "injected_bias", *BOTTLENECK_WEIGHTS),
                *("prefix_key", "prefix_value", "prompt"),
            )
        )
        for p in expected
    ):
        return False
    refined = any(path.endswith("/refine") for path in expected)
    return not refined or architecture.name not in {*BIAS_FREE, "qwen2"}


def run(architecture, adapter, reference):
    data = architecture.data(seed=0)
    fits = adapter == "AllBiases" or architecture.targets
    if adapter in ("ValueBias", "IA3"):
        fits = any("value" in path for path in architecture.target_paths)
    if adapter in ("TargetLayer", "PromptTuning"):
        fits = architecture.name in SECOND_BLOCK
    if adapter == "full" or not fits:
        result = TestCase().run_training_test(
            architecture.build, data, architecture.loss(), reference
        )
        if adapter != "full":
            # Nothing in this network takes this adapter.
            with pytest.raises(ValueError, match="has these layers"):
                apply(
                    architecture.build(),
                    create(architecture, adapter),
                    also_train=architecture.also_train,
                )
        return {**result, "refused": adapter != "full"}
    expected = trained_by(architecture, adapter)
    return TestCase().run_adapter_test(
        lambda: create(architecture, adapter),
        architecture.build,
        data,
        expected | set(architecture.head),
        architecture.loss(),
        architecture.also_train,
        reference,
        merges=can_merge(architecture, expected),
        # A prefix or prompt takes its share of attention from the start.
        changes_nothing=adapter not in ("PrefixTuning", "PromptTuning"),
        # What reaches every layer, or divides by lengths, grows rounding
        # errors as well, and so processors differ.
        learning_rate=0.02
        if adapter in ("AllBiases", "DoRA") or architecture.name == "gemma2"
        else 0.1,
        # It starts from singular vectors of a gradient, some of them close.
        tolerance=5e-4 if adapter == "LoRAGA" else 1e-5,
    )


@pytest.mark.parametrize(
    ("name", "adapter"), matrix.cells(NAMES, keras.config.backend())
)
def test_nine_invariants(name, adapter):
    architecture = ARCHITECTURES[NAMES.index(name)]
    reference = reference_of(architecture, adapter)
    assert reference is not None, "no committed reference"
    result = run(architecture, adapter, reference)
    assert result["invariants"] == list(range(1, 10))
    matrix.record(
        name,
        adapter,
        keras.config.backend(),
        result["invariants"],
        result.get("refused", False),
    )


if __name__ == "__main__":
    REFERENCES.mkdir(exist_ok=True)
    chosen = sys.argv[1:] or NAMES
    for architecture, adapter in matrix.cells(NAMES, "torch"):
        if architecture in chosen or adapter in chosen:
            row = ARCHITECTURES[NAMES.index(architecture)]
            outputs = run(row, adapter, None)["outputs"]
            np.save(REFERENCES / f"{architecture}-{adapter}.npy", outputs)
            print(architecture, adapter, outputs.shape, flush=True)
