"""Damaged `.keras` and weights files, teacher caches, features and runs.

    KERAS_DEBIAS_FUZZ=5000 python -m pytest tests/fuzz -s
"""

import collections
import io
import os
import random
import time
import traceback
import warnings
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.fuzz.mutations import edit_archive
from tests.fuzz.mutations import edit_bytes
from tests.fuzz.mutations import edit_datasets

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
