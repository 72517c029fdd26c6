"""Damaged and hostile adapter folders: refused in words, or of no effect.

A hundred cases of each kind of folder; thousands with

    KERAS_DEBIAS_FUZZ=5000 python -m pytest tests/fuzz -s
"""

import collections
import json
import os
import random
import time

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import keras_debias as kd
from keras_debias.adapters import store
from keras_debias.adapters.selection import variable_paths
from tests.fuzz.mutations import edit_bytes
from tests.fuzz.mutations import edit_settings
from tests.fuzz.mutations import edit_tensors

CASES = int(os.environ.get("KERAS_DEBIAS_FUZZ", 60))


def build():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=6,
        dropout=0.0,
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=None, dropout=0.0
    )


def own_folder(path):
    model = build()
    adapters = [kd.adapters.PiSSA(2), kd.adapters.KeyBias()]
    kd.adapters.apply(model, adapters)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    kd.adapters.save(model, path)


def peft_folder(path):
    path.mkdir()
    rng = np.random.default_rng(0)
    tensors = {}
    for name in ("query", "value"):
        key = f"base_model.model.bert.encoder.layer.0.attention.self.{name}."
        for letter, shape in (("A", (2, 8)), ("B", (8, 2))):
            tensors[f"{key}lora_{letter}.weight"] = rng.normal(
                size=shape
            ).astype("float32")
    tensors["base_model.model.classifier.weight"] = np.ones((2, 8), "float32")
    tensors["base_model.model.classifier.bias"] = np.ones(2, "float32")
    safetensors.numpy.save_file(tensors, path / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "rank_pattern": {"query": 2},
        "alpha_pattern": {},
        "target_modules": ["query", "value"],
        "modules_to_save": ["classifier"],
    }
    (path / "adapter_config.json").write_text(json.dumps(config))


def beft_folder(path):
    model = build()
    kd.adapters.apply(model, kd.adapters.ValueBias())
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    kd.adapters.export_peft(model, path, prefix="bert.")


FOLDERS = {"own": own_folder, "peft": peft_folder, "beft": beft_folder}


def values(model):
    return {
        path: np.array(ops.convert_to_numpy(v))
        for path, v in variable_paths(model).items()
    }


def agree(first, second):
    return list(first) == list(second) and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def damaged(rng, files, folder):
    """Writes the files with one of them changed; whether a sum may fit."""
    files = dict(files)
    name = rng.choice(sorted(files))
    acts = [edit_bytes]
    if name.endswith(".json"):
        acts += 4 * [lambda r, d: edit_settings(r, d.decode()).encode()]
    else:
        acts += 2 * [edit_tensors]
    files[name] = rng.choice(acts)(rng, files[name])
    forged = rng.random() < 0.3
    if forged:
        # Somebody who knows the format makes the checksum fit.
        try:
            config = json.loads(files["adapter.json"])
            arrays = safetensors.numpy.load(files["adapter.safetensors"])
            config["checksum"] = store.checksum(config, arrays)
            files["adapter.json"] = json.dumps(config).encode()
        except Exception:
            forged = False
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return forged


@pytest.mark.parametrize("kind", FOLDERS)
def test_damaged_folders(kind, tmp_path):
    FOLDERS[kind](tmp_path / "whole")
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    model = build()
    before = values(model)
    expected = values(kd.adapters.load(build(), tmp_path / "whole"))
    folder = tmp_path / "damaged"
    folder.mkdir()
    counts, wrong = collections.Counter(), []
    for seed in range(CASES):
        forged = damaged(random.Random(f"{kind} {seed}"), whole, folder)
        began = time.monotonic()
        try:
            kd.adapters.load(model, folder)
        except ValueError as error:
            outcome = "clear" if str(error).startswith("Expected") else "raw"
            if outcome == "raw":
                wrong.append((seed, repr(error)[:200]))
            if not agree(values(model), before):
                outcome = "half changed"
        except Exception as error:
            outcome = "raw"
            wrong.append((seed, repr(error)[:200]))
        else:
            # PEFT keeps no checksum: other values are another adapter.
            fits = agree(values(model), expected)
            known = kind == "own" and not forged
            outcome = "no effect" if fits else "accepted"
            if known and not fits:
                outcome = "changed in silence"
            model = build()
        if time.monotonic() - began > 20:
            outcome = "hung"
        counts[outcome] += 1
        if outcome in ("half changed", "hung", "changed in silence"):
            wrong.append((seed, outcome))
            model = build()
    print(kind, dict(counts))
    assert not wrong, wrong[:10]


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder_in_place(path):
    path.mkdir()


def enormous(path):
    with open(path, "wb") as file:
        file.truncate(2**40)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("make", [fifo, device, folder_in_place, enormous])
@pytest.mark.parametrize("kind", ["own", "peft"])
def test_files_that_are_none(kind, make, tmp_path):
    for name in ("config", "weights"):
        folder = tmp_path / name
        FOLDERS[kind](folder)
        ending = ".json" if name == "config" else ".safetensors"
        (path,) = [p for p in folder.iterdir() if p.name.endswith(ending)]
        path.unlink()
        make(path)
        model = build()
        with pytest.raises(ValueError, match="Expected"):
            kd.adapters.load(model, folder)


def test_only_adapters_are_made_of_what_a_file_names(tmp_path, monkeypatch):
    own_folder(tmp_path / "a")
    made = []
    original = keras.layers.Dense.from_config.__func__
    monkeypatch.setattr(
        keras.layers.Dense,
        "from_config",
        classmethod(lambda cls, c: made.append(c) or original(cls, c)),
    )
    path = tmp_path / "a" / "adapter.json"
    text = path.read_text()
    for place in ("adapter", "form"):
        config = json.loads(text)
        dense = {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": "huge", "units": 10**9},
            "registered_name": None,
        }
        group = config["adapters"][-1]
        if place == "adapter":
            group["adapter"] = dense
        else:
            group["adapter"]["config"]["form"] = dense
        path.write_text(json.dumps(config))
        model = build()
        with pytest.raises(ValueError, match="Expected an adapter that"):
            kd.adapters.load(model, tmp_path / "a")
    assert not [each for each in made if each.get("name") == "huge"]
