"""Adapter folders: what they hold, and every broken one refused whole."""

import json
import pathlib
import shutil
import sys

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import keras_debias as kd
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import variable_paths
from tests.architectures import ARCHITECTURES

TABLE = {a.name: a for a in ARCHITECTURES}
REFERENCE = pathlib.Path(__file__).parents[1] / "reference" / "adapter"


def trained(adapter=None, seed=0):
    """A tiny BERT whose adapter and head are no longer as they started."""
    model = TABLE["bert"].build()
    kd.adapters.apply(model, adapter or kd.adapters.PiSSA(rank=2))
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        noise = 0.3 * generator.standard_normal(variable.shape)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    return model


def outputs(model):
    return model.predict(TABLE["bert"].data(seed=0)[0], verbose=0)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "adapter"
    kd.adapters.save(trained(), path)
    return path


def edit(folder, change_config=None, change_arrays=None):
    config = json.loads((folder / "adapter.json").read_text())
    arrays = safetensors.numpy.load_file(folder / "adapter.safetensors")
    if change_config:
        change_config(config)
    if change_arrays:
        change_arrays(arrays)
    (folder / "adapter.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(arrays, folder / "adapter.safetensors")


def test_folder_holds_the_factors_their_start_and_the_head(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
    ]
    arrays = safetensors.numpy.load_file(folder / "adapter.safetensors")
    assert len(arrays) == 4 * 4 + 2
    query = "transformer_layer_0/self_attention_layer/query"
    endings = {k.removeprefix(query) for k in arrays if k.startswith(query)}
    assert endings == {
        "/lora_a",
        "/lora_b",
        "/lora_a_start",
        "/lora_b_start",
    }
    config = json.loads((folder / "adapter.json").read_text())
    assert config["format"] == "keras_debias.adapter/2"
    assert config["model"]["backbone"] == "BertBackbone"
    assert len(config["base"]) == 4


def test_start_is_stored_and_not_computed_again(folder, monkeypatch):
    def no_svd(*args, **kwargs):
        raise RuntimeError("a decomposition")

    monkeypatch.setattr("keras_debias.adapters.pissa.truncated_svd", no_svd)
    monkeypatch.setattr(np.linalg, "svd", no_svd)
    model = kd.adapters.load(TABLE["bert"].build(), folder)
    assert np.isfinite(outputs(model)).all()


def test_an_adapter_saved_on_another_backend():
    """The committed folder was written on torch."""
    model = kd.adapters.load(TABLE["bert"].build(), REFERENCE)
    expected = np.load(REFERENCE.with_name("adapter-outputs.npy"))
    np.testing.assert_allclose(outputs(model), expected, atol=1e-5)


def test_a_folder_of_the_first_format_loads(tmp_path):
    """As version 0.1.0 wrote it: the same without a checksum."""
    folder = tmp_path / "adapter"
    shutil.copytree(REFERENCE, folder)
    config = json.loads((folder / "adapter.json").read_text())
    del config["checksum"]
    config["format"] = "keras_debias.adapter/1"
    (folder / "adapter.json").write_text(json.dumps(config))
    model = kd.adapters.load(TABLE["bert"].build(), folder)
    expected = np.load(REFERENCE.with_name("adapter-outputs.npy"))
    np.testing.assert_allclose(outputs(model), expected, atol=1e-5)


@pytest.mark.once
def test_loaded_is_frozen_or_trains_the_same_weights(folder):
    expected = [v.path for v in trained().trainable_variables]
    model = kd.adapters.load(TABLE["bert"].build(), folder)
    assert not model.trainable_variables
    model = kd.adapters.load(TABLE["bert"].build(), folder, trainable=True)
    assert [v.path for v in model.trainable_variables] == expected
    x, y = TABLE["bert"].data(seed=0)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = outputs(model)
    model.fit(x, y, shuffle=False, verbose=0)
    assert np.abs(outputs(model) - before).max() > 1e-4
    with kd.adapters.disabled(model):
        pass


def test_a_half_precision_base_is_the_same_base(folder):
    model = TABLE["bert"].build()
    half = TABLE["bert"].build()
    for layer in layer_paths(half).values():
        for variable in getattr(layer, "weights", []):
            rounded = ops.cast(ops.cast(variable.value, "bfloat16"), "float32")
            variable.assign(rounded)
    kd.adapters.load(half, folder)
    kd.adapters.load(model, folder)
    assert np.abs(outputs(half) - outputs(model)).max() < 0.1


def test_saving_over_an_existing_folder(folder):
    before = (folder / "adapter.safetensors").read_bytes()
    with pytest.raises(ValueError, match="`overwrite=True`"):
        kd.adapters.save(trained(seed=1), folder)
    assert (folder / "adapter.safetensors").read_bytes() == before
    kd.adapters.save(trained(seed=1), folder, overwrite=True)
    assert (folder / "adapter.safetensors").read_bytes() != before
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]


def test_a_save_that_fails_leaves_the_old_folder(folder, monkeypatch):
    before = (folder / "adapter.safetensors").read_bytes()

    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.numpy.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        kd.adapters.save(trained(seed=1), folder, overwrite=True)
    assert (folder / "adapter.safetensors").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]


def truncate(name):
    def act(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return act


def first(arrays):
    return min(k for k in arrays if k.endswith("lora_a"))


BROKEN = {
    "no folder": (lambda f: f.rename(f.with_name("elsewhere")), "has no"),
    "no weights": (
        lambda f: (f / "adapter.safetensors").unlink(),
        "has no adapter.safetensors",
    ),
    "no config": (
        lambda f: (f / "adapter.json").unlink(),
        "has no adapter.json",
    ),
    "short weights": (truncate("adapter.safetensors"), "cannot be read"),
    "short config": (truncate("adapter.json"), "cannot be read"),
    "other format": (
        lambda f: edit(f, lambda c: c.update(format="x/9")),
        "Expected the format",
    ),
    "config without a part": (
        lambda f: edit(f, lambda c: c.pop("base")),
        "cannot be read",
    ),
    "missing tensor": (
        lambda f: edit(f, None, lambda a: a.pop(first(a))),
        "1 missing",
    ),
    "extra tensor": (
        lambda f: edit(f, None, lambda a: a.update(z=np.ones(2, "float32"))),
        "1 extra",
    ),
    "wrong shape": (
        lambda f: edit(
            f, None, lambda a: a.update({first(a): np.ones((3, 2), "float32")})
        ),
        "Expected the shape",
    ),
    "not finite": (
        lambda f: edit(
            f,
            None,
            lambda a: a.update({first(a): a[first(a)] * np.float32("nan")}),
        ),
        "NaN or infinite",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_changes_nothing(folder, case):
    act, message = BROKEN[case]
    act(folder)
    model = TABLE["bert"].build()
    names, before = list(variable_paths(model)), outputs(model)
    with pytest.raises(ValueError, match=message):
        kd.adapters.load(model, folder)
    assert list(variable_paths(model)) == names
    assert all(v.trainable for v in model.weights)
    np.testing.assert_array_equal(outputs(model), before)


def test_another_base_is_refused(folder):
    model = TABLE["bert"].build(seed=3)
    with pytest.raises(ValueError, match="differ in 4 of 4"):
        kd.adapters.load(model, folder)
    merged = kd.adapters.merge(trained())
    with pytest.raises(ValueError, match="differ in 4 of 4"):
        kd.adapters.load(merged, folder)


def test_another_architecture_is_refused(folder):
    model = TABLE["gpt2"].build()
    with pytest.raises(ValueError, match="made for .*BertBackbone"):
        kd.adapters.load(model, folder)


def test_another_head_is_refused(folder):
    import keras_hub

    backbone = TABLE["bert"].build().backbone
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=5)
    names = list(variable_paths(model))
    with pytest.raises(ValueError, match=r"shape \(5,\).*number of classes"):
        kd.adapters.load(model, folder)
    assert list(variable_paths(model)) == names


def test_a_model_with_adapters_is_refused(folder):
    with pytest.raises(ValueError, match="without adapters"):
        kd.adapters.load(trained(), folder)


def test_what_is_not_finite_is_not_saved(tmp_path):
    model = trained()
    model.trainable_variables[0].assign(
        np.full(model.trainable_variables[0].shape, np.nan)
    )
    with pytest.raises(ValueError, match="NaN or infinite"):
        kd.adapters.save(model, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_state_of_head_layers_travels(tmp_path):
    def build():
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(6, name="body"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.Dense(3, name="head"),
            ]
        )

    keras.utils.set_random_seed(0)
    model = build()
    base = model.get_weights()
    kd.adapters.apply(
        model,
        kd.adapters.LoRA(rank=2, targets="body"),
        also_train=("norm", "head"),
    )
    generator = np.random.default_rng(0)
    for variable in (*model.trainable_variables, *model.layers[1].weights):
        variable.assign(0.5 + generator.random(variable.shape))
    kd.adapters.save(model, tmp_path / "a")
    other = build()
    other.set_weights(base)
    kd.adapters.load(other, tmp_path / "a")
    x = generator.standard_normal((5, 4)).astype("float32")
    np.testing.assert_allclose(
        other.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


def test_predicates_are_saved_as_the_layers_they_chose(tmp_path):
    model = trained(
        kd.adapters.LoRA(rank=2, targets=lambda layer: layer.name == "key")
    )
    kd.adapters.save(model, tmp_path / "a")
    loaded = kd.adapters.load(TABLE["bert"].build(), tmp_path / "a")
    np.testing.assert_allclose(outputs(loaded), outputs(model), atol=1e-5)


if __name__ == "__main__":
    # Writes the committed folder anew.
    kd.adapters.save(trained(), REFERENCE, overwrite=True)
    np.save(REFERENCE.with_name("adapter-outputs.npy"), outputs(trained()))
    sys.exit()
