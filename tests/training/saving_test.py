"""`.keras` files, weights files, and runs that are killed and resumed."""

import pathlib
import sys
import time
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.architectures import ARCHITECTURES
from tests.combinations import part
from tests.combinations import spread
from tests.processes import as_in_the_suite
from tests.processes import start
from tests.training.step_test import compiled
from tests.training.step_test import logits_loss
from tests.training.step_test import rows

MODULE = "tests.training.saving_test"
TABLE = {a.name: a for a in ARCHITECTURES}


def debiased(name, adapter, dropout=0.0):
    architecture = TABLE[name]
    network = architecture.build(dropout=dropout)
    kd.adapters.apply(network, adapter, also_train=architecture.also_train)
    model = kd.DebiasedModel(network, [kd.projections.EDGE(alpha=0.7)], seed=5)
    model.compile(keras.optimizers.Adam(0.01), loss=logits_loss())
    return model, architecture.data(seed=0)


@pytest.mark.parametrize(
    ("adapter", "name"),
    spread(
        [kd.adapters.LoRA, kd.adapters.PiSSA],
        ["functional", "llama", "bert_text"],
        period=6,
    ),
)
def test_keras_file_restores_everything(name, adapter, tmp_path):
    model, (x, y) = debiased(name, adapter(rank=2), dropout=0.1)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    expected = model.predict(x, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert isinstance(loaded, kd.DebiasedModel)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert loaded.projections[0].get_config() == {
        "alpha": 0.7,
        "q": 0.7,
        "scope": "variable",
        "common": True,
        "refresh": 1,
    }
    for a, b in zip(
        loaded.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    # It goes on as the original does: order, dropout and moments.
    for each in (model, loaded):
        each.fit(x, y, batch_size=4, epochs=1, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )
    # The teacher of the restored model is the pretrained one.
    with kd.adapters.disabled(loaded), kd.adapters.disabled(model):
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0),
            model.predict(x, verbose=0),
            atol=1e-6,
        )


@pytest.mark.filterwarnings("ignore:Skipping variable loading for opt")
@pytest.mark.parametrize("name", part(["functional", "bert", "sequential"]))
def test_a_network_saved_by_itself_loads_with_the_same_outputs(name, tmp_path):
    """Saved without a `DebiasedModel`, adapters are merged into the file."""
    architecture = TABLE[name]
    network = architecture.build()
    kd.adapters.apply(
        network,
        kd.adapters.PiSSA(rank=2, targets=architecture.targets),
        also_train=architecture.also_train,
    )
    network.compile(keras.optimizers.Adam(0.05), loss=logits_loss())
    x, y = architecture.data(seed=0)
    network.fit(x, y, verbose=0, shuffle=False)
    expected = network.predict(x, verbose=0)
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "network.weights.h5")
    with warnings.catch_warnings():
        # KerasHub's tasks override `compile`; Keras then says so.
        warnings.filterwarnings("ignore", "`compile\\(\\)` was not called")
        # The optimizer's moments belong to factors that are merged now.
        warnings.filterwarnings("ignore", "Skipping variable loading for opt")
        loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), expected, atol=1e-5
    )
    _check_weights_file(architecture, tmp_path, x, expected)


def _check_weights_file(architecture, tmp_path, x, expected):
    fresh = architecture.build(seed=3)
    fresh.load_weights(tmp_path / "network.weights.h5")
    np.testing.assert_allclose(fresh.predict(x, verbose=0), expected, atol=1e-5)
    # Into an adapted model: the file's outputs, and a zero update.
    adapted = architecture.build(seed=3)
    kd.adapters.apply(
        adapted,
        kd.adapters.LoRA(rank=2, targets=architecture.targets),
        also_train=architecture.also_train,
    )
    adapted.load_weights(tmp_path / "network.weights.h5")
    np.testing.assert_allclose(
        adapted.predict(x, verbose=0), expected, atol=1e-5
    )


def test_model_checkpoint_and_early_stopping_see_the_worst_group(tmp_path):
    x, y = rows()
    split = kd.data.Split(x, y, groups=np.arange(len(y)) % 2)
    model = compiled(
        kd.projections.EDGE(), optimizer=keras.optimizers.Adam(0.1)
    )
    path = tmp_path / "best.weights.h5"
    history = model.fit(
        split,
        epochs=6,
        verbose=0,
        callbacks=[
            kd.callbacks.OODEvaluation({"hans": split}, min_group_size=1),
            keras.callbacks.ModelCheckpoint(
                path,
                monitor="hans_worst_group_accuracy",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            keras.callbacks.EarlyStopping(
                monitor="hans_worst_group_accuracy", mode="max", patience=3
            ),
        ],
    ).history
    best = max(history["hans_worst_group_accuracy"])
    model.load_weights(path)
    scores = kd.evaluate(model, {"hans": split}, min_group_size=1, bootstrap=0)
    np.testing.assert_allclose(
        scores["hans"].worst_group_accuracy, best, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_model_are_refused(tmp_path):
    model, _ = debiased("functional", kd.adapters.LoRA(rank=2), dropout=0.1)
    model.save_weights(tmp_path / "a.weights.h5")
    other = compiled()
    with pytest.raises(ValueError, match="Build the model as it was"):
        other.load_weights(tmp_path / "a.weights.h5")


class StopAt(keras.callbacks.Callback):
    """Says that a batch is reached, and waits for the end."""

    def __init__(self, batch, folder):
        super().__init__()
        self.left, self.folder = batch, folder

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            (self.folder / "reached").touch()
            time.sleep(600)


def backed_up(folder, stop_at=None):
    """The weights after four epochs, from where a backup ends."""
    keras.utils.set_random_seed(7)
    model, (x, y) = debiased(
        "functional", kd.adapters.LoRA(rank=2), dropout=0.3
    )
    callbacks = [keras.callbacks.BackupAndRestore(folder / "backup")]
    if stop_at:
        callbacks.append(StopAt(stop_at, folder))
    model.fit(x, y, batch_size=2, epochs=4, verbose=0, callbacks=callbacks)
    return model.model.get_weights()


@pytest.mark.once
def test_a_killed_run_ends_where_the_uninterrupted_one_ends(tmp_path):
    """SIGKILL in the third of four epochs, with dropout and shuffling."""
    (tmp_path / "killed").mkdir()
    output = tmp_path / "output"
    killed = start(MODULE, tmp_path / "killed", 10, output=output)
    expected = backed_up(tmp_path / "whole")
    reached = tmp_path / "killed" / "reached"
    deadline = time.time() + 300
    while not reached.exists():
        assert killed.is_alive(), output.read_text()
        assert time.time() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.join()
    assert (tmp_path / "killed" / "backup").exists()
    found = backed_up(tmp_path / "killed")
    for value, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, whole, atol=1e-6)


def test_a_task_that_compiled_itself_loads_without_a_warning(tmp_path):
    task = TABLE["bert_text"].build()
    task.compile()
    model = kd.DebiasedModel(task)
    model.compile(keras.optimizers.SGD(0.1), loss=logits_loss())
    model.save(tmp_path / "model.keras")
    # Warnings are errors here.
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.model.compiled


if __name__ == "__main__":
    as_in_the_suite()
    backed_up(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
