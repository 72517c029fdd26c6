"""A killed run goes on where it ended, to the bit."""

import json
import os
import random
import signal
import sys
import time

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.processes import as_in_the_suite
from tests.processes import start

MODULE = "tests.callbacks.backup_and_restore_test"
EPOCHS = 6
# Thirty or so by hand; starting Keras is most of the time.
KILLS = int(os.environ.get("KERAS_DEBIAS_KILLS", 1))


def trained(folder, epochs=EPOCHS, delay=0.0, delete=True, width=8):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(width, name="hidden")(inputs)
    hidden = keras.layers.Dropout(0.3, seed=1)(hidden)
    network = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    kd.adapters.apply(
        network,
        kd.adapters.PiSSA(2, targets="hidden", dropout=0.2),
        also_train="head",
    )
    model = kd.DebiasedModel(network, kd.projections.EDGE(), seed=3)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 5)).astype("float32")
    y = rng.integers(0, 3, 24).astype("int32")
    callbacks = []
    if folder is not None:
        callbacks.append(kd.callbacks.BackupAndRestore(folder, delete))
    if delay:
        slow = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: time.sleep(delay)
        )
        callbacks.append(slow)
    history = model.fit(
        x, y, batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return model, history


def values(model):
    return [
        np.array(ops.convert_to_numpy(v))
        for v in (*model.variables, *model.optimizer.variables)
    ]


def same(first, second):
    for one, other in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_ended_run_goes_on_to_the_bit(tmp_path):
    expected, _ = trained(None)
    trained(tmp_path / "b", epochs=3, delete=False)
    assert len(list((tmp_path / "b").iterdir())) == 4
    model, history = trained(tmp_path / "b")
    assert history.epoch == [3, 4, 5]
    same(model, expected)
    # It has come to its end: nothing is left.
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("epochs", [3, 4], ids=["at its end", "before"])
def test_a_later_fit_begins_at_its_own_first_epoch(epochs, tmp_path):
    trained(tmp_path / "b", epochs=3, delete=False)
    model, history = trained(tmp_path / "b", epochs=epochs)
    assert history.epoch == list(range(3, epochs))
    x = np.zeros((4, 5), "float32")
    later = model.fit(x, np.zeros(4, "int32"), epochs=2, verbose=0)
    assert later.epoch == [0, 1]


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def test_the_other_place_stands_in_for_a_damaged_one(tmp_path):
    folder = tmp_path / "b"
    expected, _ = trained(None)
    trained(folder, epochs=3, delete=False)
    latest = max(
        folder.glob("*.json"), key=lambda p: json.loads(p.read_text())["epoch"]
    )
    damage(latest.with_suffix(".weights.h5"))
    model, history = trained(folder)
    assert history.epoch == [2, 3, 4, 5]
    same(model, expected)

    trained(folder, epochs=3, delete=False)
    for path in folder.glob("*.weights.h5"):
        damage(path)
    with pytest.raises(ValueError, match="Expected a whole backup"):
        trained(folder)


def test_a_backup_without_a_record_is_none(tmp_path):
    folder = tmp_path / "b"
    trained(folder, epochs=2, delete=False)
    for path in folder.glob("*.json"):
        path.unlink()
    _, history = trained(folder)
    assert history.epoch == list(range(EPOCHS))


def test_a_backup_of_another_model_is_refused(tmp_path):
    trained(tmp_path / "b", epochs=2, delete=False)
    with pytest.raises(ValueError, match="Expected a backup of this model"):
        trained(tmp_path / "b", width=9)


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_run_goes_on_to_the_bit(kill, tmp_path):
    expected, _ = trained(None)
    output = tmp_path / "output"
    process = start(MODULE, tmp_path / "b", output=output)
    # Counted from the first batch, not from the start of the process.
    while process.is_alive() and not (
        output.exists() and "ready" in output.read_text()
    ):
        time.sleep(0.02)
    time.sleep(random.Random(kill).uniform(0.05, 0.03 * 6 * EPOCHS))
    process.kill()
    process.join()
    # It may have come to its end before.
    assert process.exitcode in (-signal.SIGKILL, 0), output.read_text()
    model, _ = trained(tmp_path / "b")
    same(model, expected)


if __name__ == "__main__":
    as_in_the_suite()
    print("ready", flush=True)
    trained(sys.argv[1], delay=0.03)
