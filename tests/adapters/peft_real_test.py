"""Real models as folders that Transformers and PEFT read alone."""

import json
import pathlib
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest

import keras_debias as kd
from tests.adapters.peft_process_test import READER
from tests.adapters.peft_test import TOLERANCE
from tests.adapters.peft_test import difference
from tests.adapters.peft_test import keras_outputs
from tests.adapters.peft_test import tokens_and_pixels

pytest.importorskip("peft")
# KerasHub 0.32 computes BERT with another GELU than its checkpoint says, and
# leaves Llama's epsilon out: outputs differ by 6e-4 without any adapter.
AS_IN_KERAS_HUB = {
    "minilm": {"hidden_act": "gelu_pytorch_tanh"},
    "smollm2": {"rms_norm_eps": 1e-6},
}


def checkpoint(name, preset, folder):
    """The checkpoint of a preset, with the settings that KerasHub has."""
    folder.mkdir()
    for path in pathlib.Path(preset).iterdir():
        if path.name == "config.json":
            config = json.loads(path.read_text()) | AS_IN_KERAS_HUB[name]
            (folder / path.name).write_text(json.dumps(config))
        elif path.is_file():
            (folder / path.name).symlink_to(path)
    return str(folder)


def test_minilm_and_smollm2_in_a_process_of_their_own(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    np.save(out / "tokens.npy", tokens_and_pixels()[0])
    presets = {"minilm": kd.presets.minilm(), "smollm2": kd.presets.smollm2()}
    for name, preset in presets.items():
        if name == "minilm":
            model = keras_hub.models.TextClassifier.from_preset(
                preset, num_classes=2
            )
        else:
            model = keras_hub.models.CausalLM.from_preset(preset)
        keras.utils.set_random_seed(0)
        plain = keras_outputs(model)
        kd.adapters.apply(model, kd.adapters.LoRA(8))
        generator = np.random.default_rng(0)
        for variable in model.trainable_variables:
            noise = 0.05 * generator.standard_normal(variable.shape)
            variable.assign(variable.numpy() + noise.astype("float32"))
        expected = keras_outputs(model)
        assert difference(expected, plain) > 0.01
        kd.adapters.export_peft(
            model,
            out / f"{name}-LoRA",
            base_model_name_or_path=checkpoint(name, preset, tmp_path / name),
        )
        np.save(out / f"{name}-LoRA/logits.npy", expected)
        kd.adapters.merge(model)
        assert difference(keras_outputs(model), expected) < TOLERANCE
        del model
    run = subprocess.run(
        [sys.executable, READER, out, "smollm2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.returncode, run.stderr
    found = json.loads(run.stdout)
    print(found)
    assert set(found) == {"minilm-LoRA", "smollm2-LoRA"}
    for name, (loaded, merged) in found.items():
        assert loaded < TOLERANCE, name
        assert merged < TOLERANCE, name
