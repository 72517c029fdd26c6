"""Damaged `.keras` and weights files, teacher caches, features and runs.

KERAS_DEBIAS_FUZZ=5000 python -m pytest tests/fuzz -s
"""

import collections
import gzip
import io
import json
import os
import random
import time
import traceback
import warnings

import keras
import numpy as np
from keras import ops

import keras_debias as kd
from keras_debias.comparison import Comparison
from tests.comparison.compare_test import arguments
from tests.fuzz.mutations import edit_archive
from tests.fuzz.mutations import edit_bytes
from tests.fuzz.mutations import edit_datasets
from tests.fuzz.mutations import edit_settings
from tests.fuzz.mutations import edit_tensors

CASES = int(os.environ.get("KERAS_DEBIAS_FUZZ", 40))


def build(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    hidden = keras.layers.Dropout(0.1, seed=seed)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    kd.adapters.apply(
        model, kd.adapters.PiSSA(2, targets="hidden"), also_train="head"
    )
    debiased = kd.DebiasedModel(model, kd.projections.EDGE(), seed=seed)
    debiased.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    debiased.optimizer.build(debiased.trainable_variables)
    return debiased


def values(model):
    found = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(v)) for v in found]


def agree(first, second):
    return len(first) == len(second) and all(
        one.shape == other.shape and np.array_equal(one, other)
        for one, other in zip(first, second, strict=True)
    )


def outcome_of(error) -> str:
    """Whose words an error has: ours, or those of a library above us."""
    if isinstance(error, ValueError) and "Expected" in str(error):
        return "clear"
    frames = traceback.extract_tb(error.__traceback__)
    inside = any("keras_debias" in frame.filename for frame in frames)
    return "raw" if inside else "Keras' own error"


def count(name, attempt):
    """Runs the cases; raises if one ends as none may."""
    counts, wrong = collections.Counter(), []
    for seed in range(CASES):
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = attempt(random.Random(f"{name} {seed}"))
        if time.monotonic() - began > 20:
            outcome = "hung"
        word = outcome.partition(":")[0]
        counts[word] += 1
        if word in ("raw", "half changed", "hung", "changed in silence"):
            wrong.append((seed, outcome))
    print(name, dict(counts))
    assert not wrong, (len(wrong), wrong[:10])


def raw(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"raw: {error!r}"[:200] + f" {last.filename}:{last.lineno}"


def test_damaged_keras_files(tmp_path):
    model = build()
    path = tmp_path / "model.keras"
    model.save(path)
    whole, expected = path.read_bytes(), values(model)
    settings = keras.saving.load_model(path).get_config()["checksum"]

    def attempt(rng):
        edit = rng.choice([edit_bytes, edit_archive, edit_archive])
        path.write_bytes(edit(rng, whole))
        try:
            loaded = keras.saving.load_model(path)
        except Exception as error:
            found = outcome_of(error)
            return raw(error) if found == "raw" else found
        if not isinstance(loaded, kd.DebiasedModel):
            return "another class"
        same = loaded.get_config()["checksum"] == settings
        same = same and loaded.optimizer is not None
        same = same and agree(values(loaded), expected)
        return "no effect" if same else "changed in silence"

    count("keras", attempt)


def test_damaged_weights_files(tmp_path):
    path = tmp_path / "model.weights.h5"
    other = build(1)
    other.save_weights(path)
    whole, expected = path.read_bytes(), values(other)
    model = build()
    before = values(model)
    model.save_weights(tmp_path / "own.weights.h5")

    def attempt(rng):
        edit = rng.choice([edit_bytes, edit_datasets])
        path.write_bytes(edit(rng, whole))
        try:
            model.load_weights(path)
        except Exception as error:
            if not agree(values(model), before):
                return "half changed"
            return "clear" if outcome_of(error) == "clear" else raw(error)
        same = agree(values(model), expected)
        model.load_weights(tmp_path / "own.weights.h5")
        return "no effect" if same else "changed in silence"

    count("weights", attempt)


def test_damaged_teacher_caches(tmp_path):
    path = tmp_path / "cache.npz"
    features = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
    kd.regularizers.TeacherCache(path).store(features, "rows")
    whole = path.read_bytes()

    def edit(rng, data):
        """Arrays of another shape, type or value, in a sound archive."""
        with np.load(io.BytesIO(data)) as file:
            arrays = dict(file)
        name = rng.choice(sorted(arrays))
        array = arrays.pop(name)
        if name == "rows":
            changed = [np.array("other"), array[None], np.array(3), None]
        else:
            other = array.copy()
            other.flat[0] += 1
            changed = [other, array[:-1], array[None], array.astype("f2"), None]
        arrays |= {
            k: v for k, v in [(name, rng.choice(changed))] if v is not None
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    def attempt(rng):
        chosen = rng.choice([edit, edit_bytes, edit_archive])
        path.write_bytes(chosen(rng, whole))
        cache = kd.regularizers.TeacherCache(path)
        try:
            cache.load()
        except Exception as error:
            if cache.features is not None:
                return "half changed"
            return "clear" if outcome_of(error) == "clear" else raw(error)
        same = cache.rows == "rows" and agree([cache.features], [features])
        return "no effect" if same else "changed in silence"

    count("teacher cache", attempt)


def test_damaged_features(tmp_path, monkeypatch):
    """What cannot be read is computed again."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    split = kd.data.Split(x, np.zeros(6, int), label_names=["a", "b"])
    features = kd.features.FrozenFeatures(network, cache_dir=tmp_path)
    expected = features(split)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()

    def attempt(rng):
        path.write_bytes(rng.choice([edit_bytes, edit_tensors])(rng, whole))
        monkeypatch.setattr(
            type(features), "_memory", collections.OrderedDict()
        )
        try:
            found = features(split)
        except Exception as error:
            return raw(error)
        same = np.array_equal(found, expected)
        return "no effect" if same else "changed in silence"

    count("features", attempt)


def test_damaged_run_folders(tmp_path):
    folder = tmp_path / "runs"
    kd.compare(**arguments(folder=folder, seeds=[0]))
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    expected = {run.method: run for run in Comparison.load(folder).runs}

    def same(run):
        other = expected[run.method]
        predictions = run.scores.predictions
        return json.dumps(run.to_dict()) == json.dumps(
            other.to_dict()
        ) and predictions.equals(other.scores.predictions)

    def attempt(rng):
        for path, data in whole.items():
            path.write_bytes(data)
        path = rng.choice(sorted(whole))
        data = whole[path]
        if path.suffix == ".json" and rng.random() < 0.7:
            data = edit_settings(rng, data.decode()).encode()
        elif path.suffix == ".gz" and rng.random() < 0.5:
            text = edit_bytes(rng, gzip.decompress(data))
            data = gzip.compress(text)
        else:
            data = edit_bytes(rng, data)
        path.write_bytes(data)
        try:
            runs = Comparison.load(folder).runs
        except Exception as error:
            return "clear" if outcome_of(error) == "clear" else raw(error)
        if not all(run.method in expected and same(run) for run in runs):
            return "changed in silence"
        return "no effect" if len(runs) == 2 else "left out"

    count("runs", attempt)


def test_files_of_runs_that_are_none(tmp_path):
    folder = tmp_path / "runs"
    kd.compare(**arguments(folder=folder, seeds=[0]))
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        if hasattr(os, "mkfifo"):
            os.mkfifo(path)
        else:
            path.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert len(Comparison.load(folder).runs) < 2
            except ValueError as error:
                assert "cannot be read" in str(error)
        path.unlink() if hasattr(os, "mkfifo") else path.rmdir()
        path.write_bytes(whole)
