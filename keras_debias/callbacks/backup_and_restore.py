import hashlib
import json
import os
import pathlib

import keras

from keras_debias import _keras_internals
from keras_debias.callbacks.target_layer_freezing import freeze
from keras_debias.callbacks.target_layer_freezing import frozen_layer
from keras_debias.callbacks.target_layer_freezing import left_variables
from keras_debias.callbacks.target_layer_freezing import over
from keras_debias.utils.files import atomic_write
from keras_debias.utils.files import read_regular

_NAMES = ("first", "second")
_RECORD_LIMIT = 64 * 2**20


class BackupAndRestore(keras.callbacks.Callback):
    """Resumes an interrupted run, with bitwise identical results.

    Use it in place of `keras.callbacks.BackupAndRestore`, whose files can be
    incomplete or inconsistent. After each epoch it writes weights, optimizer
    and random states alternately to one of two places. Each file is replaced
    atomically, and a record holds the checksums. A restarted run loads the
    latest place whose files agree with its record. After the first epoch there
    is always at least one such place, whenever the process is killed. Without
    one, training starts from the beginning.

    With a `DebiasedModel`, the order of the rows and dropout are resumed as
    well, and so is the layer that `TargetLayerFreezing` has left to train.
    With several processes, one writes and all read from the same disk.

    Args:
        backup_dir: path of a folder that only this run uses.
        delete_checkpoint: bool. Whether the files are removed when training is
            complete. Defaults to `True`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: In `fit`, if the files are damaged or of another model.
            Nothing has been loaded then.

    Example:

    ```python
    model.fit(
        train,
        epochs=10,
        callbacks=[kd.callbacks.BackupAndRestore("run/backup")],
    )
    ```
    """

    def __init__(self, backup_dir: str | os.PathLike, delete_checkpoint=True):
        super().__init__()
        if not isinstance(backup_dir, (str, os.PathLike)) or not str(
            backup_dir
        ):
            raise TypeError(
                "Expected `backup_dir` to be a path. Received: "
                f"backup_dir={backup_dir!r}"
            )
        if not isinstance(delete_checkpoint, bool):
            raise TypeError(
                "Expected `delete_checkpoint` to be True or False. Received: "
                f"delete_checkpoint={delete_checkpoint!r}"
            )
        self.backup_dir = pathlib.Path(backup_dir)
        self._last = None
        self.delete_checkpoint = delete_checkpoint

    def _weights(self, name) -> pathlib.Path:
        return self.backup_dir / f"{name}.weights.h5"

    def _record(self, name) -> pathlib.Path:
        return self.backup_dir / f"{name}.json"

    def on_train_begin(self, logs=None):
        if not self.model.built:
            raise ValueError(
                "Expected a built model. Received: "
                f"model={self.model.name!r}. Call it on a batch before `fit`."
            )
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self._last = None
        latest = self._latest()
        if latest is None:
            return
        name, record = latest
        model, optimizer, left = self.model, self.model.optimizer, None
        layer = record.get("frozen_layer")
        if layer is not None and layer != frozen_layer(model):
            left = left_variables(model, layer)
            optimizer = over(optimizer, left)
        expected = self._variables(optimizer)
        if record["variables"] != expected:
            raise ValueError(
                f"Expected a backup of this model, of {len(expected)} "
                f"variables. Received: backup_dir={str(self.backup_dir)!r} "
                f"with {len(record['variables'])}, or others. Build and "
                "compile the model as in the run that was ended, or remove "
                "the folder to start over."
            )
        if left is not None:
            freeze(model, layer, left, optimizer)
        self.model.load_weights(self._weights(name))
        _keras_internals.start_at_epoch(self.model, record["epoch"])
        self._last = name

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has read it: the next `fit` must not begin there.
        _keras_internals.start_at_epoch(self.model, None)

    def on_epoch_end(self, epoch, logs=None):
        if not getattr(self.model, "writes_files", True):
            return
        # The other of the two places: the last one stays until this is whole.
        name = _NAMES[self._last == _NAMES[0]]
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._weights(name)) as path:
            self.model.save_weights(path)
            checksum = _digest(path)
        record = {
            "epoch": epoch + 1,
            "checksum": checksum,
            "variables": self._variables(self.model.optimizer),
            "frozen_layer": frozen_layer(self.model),
        }
        with atomic_write(self._record(name)) as path:
            path.write_text(json.dumps(record), encoding="utf-8")
        self._last = name

    def on_train_end(self, logs=None):
        _keras_internals.start_at_epoch(self.model, None)
        if not self.delete_checkpoint:
            return
        if not getattr(self.model, "writes_files", True):
            return
        # Records first: weights without a record are ignored, but a record
        # without weights counts as damaged.
        for name in _NAMES:
            self._record(name).unlink(missing_ok=True)
        for name in _NAMES:
            self._weights(name).unlink(missing_ok=True)
        try:
            self.backup_dir.rmdir()
        # It holds other files, or was never created.
        except OSError:
            return

    def _variables(self, optimizer) -> list:
        """A description of the saved variables, to compare two models."""
        state = [] if optimizer is None else optimizer.variables
        return [
            [list(v.shape), str(v.dtype)]
            for v in (*self.model.variables, *state)
        ]

    def _latest(self):
        """`(name, record)` of the latest whole backup, or `None`."""
        found, damaged = [], []
        for name in _NAMES:
            if not self._record(name).exists():
                continue
            try:
                text = read_regular(self._record(name), _RECORD_LIMIT)
                record = json.loads(text)
                if record["checksum"] == _digest(self._weights(name)):
                    found.append((record["epoch"], name, record))
                else:
                    damaged.append(name)
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                damaged.append(name)
        if found:
            _, name, record = max(found, key=lambda each: each[0])
            return name, record
        if damaged:
            raise ValueError(
                "Expected a whole backup. Received: "
                f"backup_dir={str(self.backup_dir)!r}, whose files are "
                f"damaged: {damaged}. Remove the folder to start over."
            )
        return None


def _digest(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
