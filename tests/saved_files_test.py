"""What earlier versions saved loads, and computes what it did.

The files in `reference/saved` were written on torch before the names of
modules, classes and arguments changed. They are never written again; a later
format gets files of its own.
"""

import json
import pathlib

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.architectures import ARCHITECTURES

SAVED = pathlib.Path(__file__).parent / "reference" / "saved"
FUNCTIONAL = next(a for a in ARCHITECTURES if a.name == "functional")
OBJECTS = json.loads((SAVED / "objects.json").read_text(encoding="utf-8"))
# Arguments by their present names.
RENAMED = {
    "BagOfWords": {"least": "min_df", "strength": "C"},
    "DFR": {"strength": "C"},
    "SimpleFeatures": {"strength": "C"},
}

# Arguments that came later, and what they are where a file lacks them.
ADDED = {"Recommended": {"kind_is_task": None}}


def assert_outputs(model, name):
    x, _ = FUNCTIONAL.data()
    np.testing.assert_allclose(
        model.predict(x, verbose=0), np.load(SAVED / name), atol=1e-5
    )


def test_a_keras_file():
    model = keras.saving.load_model(SAVED / "model.keras")
    assert isinstance(model, kd.DebiasedModel)
    assert_outputs(model, "model-outputs.npy")
    assert model.projections[0].alpha == 0.7
    assert [type(r).__name__ for r in model.regularizers] == [
        "Consistency",
        "Diversity",
    ]
    # Four updates of Adam, whose state is there for the next one.
    assert int(model.optimizer.iterations) == 4
    model.fit(*FUNCTIONAL.data(), verbose=0)


def test_an_adapter_folder():
    model = kd.adapters.load(FUNCTIONAL.build(), SAVED / "adapter")
    assert_outputs(model, "adapter-outputs.npy")


@pytest.mark.parametrize("name", OBJECTS)
def test_a_config(name):
    saved = OBJECTS[name]
    loaded = keras.saving.deserialize_keras_object(saved)
    again = keras.saving.serialize_keras_object(loaded)
    expected = _values(saved)
    expected["config"] |= ADDED.get(name, {})
    assert _values(again) == expected


def _values(config):
    """A config by present names, without modules and classes.

    Both move from version to version; a registered name does not.
    """
    if isinstance(config, (list, tuple)):
        return [_values(value) for value in config]
    if not isinstance(config, dict):
        return config
    if isinstance(config.get("config"), dict):
        name = config["registered_name"].removeprefix("keras_debias>")
        names = RENAMED.get(name, {})
        inside = config["config"].items()
        config = {
            "registered_name": name,
            "config": {names.get(key, key): value for key, value in inside},
        }
    config = {k: v for k, v in config.items() if k != "module"}
    return {key: _values(value) for key, value in config.items()}
