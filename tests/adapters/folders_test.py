"""What may be replaced by an adapter folder, with which rights, and when."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import keras_debias as kd
from keras_debias.utils import files

KILLS = int(os.environ.get("KERAS_DEBIAS_KILLS", 5))


def adapted():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    return kd.adapters.apply(
        model, kd.adapters.LoRA(2, targets="hidden"), also_train="head"
    )


@pytest.mark.parametrize("kind", ["link", "file", "sources", "dangling"])
def test_only_adapter_folders_are_replaced(kind, tmp_path):
    path, other = tmp_path / "a", tmp_path / "other"
    kd.adapters.save(adapted(), other)
    if kind == "link":
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "file":
        path.write_text("mine")
    else:
        kd.adapters.save(adapted(), path)
        (path / "thesis.tex").write_text("mine")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="to be an adapter folder"):
        kd.adapters.save(adapted(), path, overwrite=True)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="no such rights")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_the_umask(mask, tmp_path):
    old = os.umask(mask)
    try:
        kd.adapters.save(adapted(), tmp_path / "a")
        model = kd.DebiasedModel(adapted())
        model.save_weights(tmp_path / "m.weights.h5")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o777 & ~mask
    for path in (*(tmp_path / "a").iterdir(), tmp_path / "m.weights.h5"):
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


WRITER = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
folder, number = pathlib.Path(sys.argv[2]), 0
while True:
    number += 1
    with files.written_folder(folder / "a") as path:
        for name in ("one", "two"):
            (path / name).write_text(str(number) * 20000)
    with files.atomic_write(folder / "m.keras") as path:
        path.write_text(str(number) * 20000)
    if number == 1:
        print("ready", flush=True)
"""


def test_a_killed_writer_leaves_old_or_new(tmp_path):
    rng = random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, files.__file__, str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        texts = [(tmp_path / "a" / n).read_text() for n in ("one", "two")]
        texts += [(tmp_path / "m.keras").read_text()]
        assert texts[0] == texts[1]
        for text in texts:
            number = len(text) // 20000
            assert len(text) == 20000 * number
            assert text == text[:number] * 20000
    # What was left is gone with the next write.
    with files.written_folder(tmp_path / "a") as path:
        (path / "one").write_text("1")
    with files.atomic_write(tmp_path / "m.keras") as path:
        path.write_text("1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "m.keras"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one"]


def test_where_folders_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    kd.adapters.save(adapted(), tmp_path / "a")
    model = adapted()
    model.layers[-1].bias.assign([1.0, 2.0, 3.0])
    kd.adapters.save(model, tmp_path / "a", overwrite=True)
    arrays = safetensors.numpy.load_file(tmp_path / "a/adapter.safetensors")
    np.testing.assert_array_equal(arrays["head/bias"], [1, 2, 3])
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    model = kd.DebiasedModel(adapted())
    path = tmp_path / "m.keras"
    model.save(path)
    before = path.read_bytes()

    def full_disk(self, *args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(keras.layers.Dense, "save_own_variables", full_disk)
    with pytest.raises(OSError, match="no space"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_a_changed_value_is_refused(tmp_path):
    model = adapted()
    kd.adapters.save(model, tmp_path / "a")
    path = tmp_path / "a" / "adapter.safetensors"
    arrays = safetensors.numpy.load_file(path)
    arrays["head/bias"] = arrays["head/bias"] + 1
    safetensors.numpy.save_file(arrays, path)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    base = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    with pytest.raises(ValueError, match="checksum does not fit"):
        kd.adapters.load(base, tmp_path / "a")


# Folders of PEFT.


def peft(folder, tensors, **config):
    folder.mkdir()
    prefix = "base_model.model."
    safetensors.numpy.save_file(
        {prefix + name: value for name, value in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("name", ["Llama", "Llama3"])
def test_llama_2_has_the_names_of_llama_3(name, tmp_path):
    backbone = getattr(keras_hub.models, f"{name}Backbone")(
        vocabulary_size=40,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=16,
        intermediate_dim=24,
    )
    rng = np.random.default_rng(0)
    key = "model.layers.0.self_attn.q_proj.lora_%s.weight"
    a = rng.normal(size=(2, 16)).astype("float32")
    b = rng.normal(size=(16, 2)).astype("float32")
    peft(tmp_path / "a", {key % "A": a, key % "B": b})
    query = backbone.transformer_layers[0]._self_attention_layer._query_dense
    before = ops.convert_to_numpy(query.kernel).reshape(16, 16)
    kd.adapters.load(backbone, tmp_path / "a")
    kd.adapters.merge(backbone)
    after = ops.convert_to_numpy(query.kernel).reshape(16, 16)
    # An update of Hugging Face is of `(outputs, inputs)`.
    np.testing.assert_allclose(after - before, (b @ a).T, atol=1e-5)


def bert():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=6,
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=None
    )


def test_the_pooler_of_bert_may_be_saved_whole(tmp_path):
    rng = np.random.default_rng(0)
    key = "bert.encoder.layer.0.attention.self.query.lora_%s.weight"
    tensors = {
        key % "A": rng.normal(size=(2, 8)).astype("float32"),
        key % "B": rng.normal(size=(8, 2)).astype("float32"),
        "bert.pooler.dense.weight": rng.normal(size=(8, 8)).astype("float32"),
        "bert.pooler.dense.bias": rng.normal(size=8).astype("float32"),
        "classifier.weight": rng.normal(size=(2, 8)).astype("float32"),
        "classifier.bias": rng.normal(size=2).astype("float32"),
    }
    peft(tmp_path / "a", tensors)
    model = kd.adapters.load(bert(), tmp_path / "a")
    pooler = model.backbone.get_layer("pooled_dense")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(pooler.kernel),
        tensors["bert.pooler.dense.weight"].T,
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(pooler.bias), tensors["bert.pooler.dense.bias"]
    )
    # Of our own folder, it is a part as well.
    kd.adapters.save(model, tmp_path / "b")
    again = kd.adapters.load(bert(), tmp_path / "b")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again.backbone.get_layer("pooled_dense").kernel),
        ops.convert_to_numpy(pooler.kernel),
    )


def test_a_target_layer_is_not_exported(tmp_path):
    model = kd.adapters.apply(bert(), kd.adapters.TargetLayer(0))
    with pytest.raises(ValueError, match="Expected adapters that PEFT has"):
        kd.adapters.export_peft(model, tmp_path / "a")
    assert not list(tmp_path.iterdir())
