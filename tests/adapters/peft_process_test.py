"""Folders that Transformers and PEFT read in a process of their own."""

import json
import pathlib
import subprocess
import sys

import keras_hub
import numpy as np
import pytest

from keras_debias import adapters
from tests.adapters.export_peft_test import trained
from tests.adapters.peft_test import NUM_CLASSES
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import folder_of
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import tokens_and_pixels

pytest.importorskip("peft")
READER = pathlib.Path(__file__).parent / "read_with_peft.py"

ENCODERS = ("bert", "roberta", "distilbert")
DECODERS = ("gpt2", "llama", "gemma", "mistral", "qwen2")
FORMS = {
    "LoRA": lambda: adapters.LoRA(2, alpha=3),
    "DoRA": lambda: adapters.DoRA(2, alpha=3),
    "PiSSA": lambda: adapters.PiSSA(2),
    "IA3": adapters.IA3,
    "ValueBias": adapters.ValueBias,
    "PrefixTuning": lambda: adapters.PrefixTuning(3),
    "PromptTuning": lambda: adapters.PromptTuning(3),
}
# PEFT's are for `torch.nn.Linear`, and for rotary positions.
WITHOUT = {
    "ValueBias": ("gpt2",),
    "PrefixTuning": ("gpt2", *ENCODERS),
    "PromptTuning": ("gpt2", *ENCODERS),
}


def task_of(name, folder):
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    kind = type(backbone).__name__.removesuffix("Backbone")
    if name in (*DECODERS, "qwen3"):
        task = getattr(keras_hub.models, f"{kind}CausalLM")
        return task(backbone=backbone, preprocessor=None)
    task = getattr(keras_hub.models, f"{kind}TextClassifier")
    return task(backbone=backbone, num_classes=NUM_CLASSES, preprocessor=None)


def test_transformers_and_peft_read_them_alone(tmp_path, tmp_path_factory):
    tokens, _ = tokens_and_pixels()
    np.save(tmp_path / "tokens.npy", tokens)
    for name in (*ENCODERS, *DECODERS):
        folder = folder_of(name, tmp_path_factory)
        for form, create in FORMS.items():
            if name in WITHOUT.get(form, ()):
                continue
            model = task_of(name, folder)
            trained(model, create(), also_train=None)
            out = tmp_path / f"{name}-{form}"
            adapters.export_peft(
                model, out, base_model_name_or_path=str(folder)
            )
            np.save(out / "logits.npy", keras_outputs(model))
    run = subprocess.run(
        [sys.executable, READER, tmp_path, *DECODERS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.returncode, run.stderr
    found = json.loads(run.stdout)
    left_out = sum(map(len, WITHOUT.values()))
    assert len(found) == len(FORMS) * len((*ENCODERS, *DECODERS)) - left_out
    print(run.stdout)
    for name, (loaded, merged) in found.items():
        assert loaded < TOLERANCE, name
        assert merged < TOLERANCE, name
