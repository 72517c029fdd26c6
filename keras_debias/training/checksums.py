"""Checksums of weights and settings, in the files of a `DebiasedModel`."""

import hashlib
import json
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

CHECKSUM = "checksum"
# Bytes of each of the hashes of weights.
_SIZE = 32


def save_checksums(parts: Callable[[], dict], store) -> None:
    """Writes a hash of each part of a model to a group of a file.

    Args:
        parts: function without arguments to a dict from names to lists of
            variables or arrays.
        store: the group.
    """
    for name, variables in parts().items():
        store[name] = _digests(variables)


def compare_checksums(parts: Callable[[], dict], store) -> None:
    """Raises if a model that was loaded has other values than were saved.

    Values of other shapes or types are rounded or left out, with a warning of
    Keras, and not compared. A file of an earlier version has no checksums.
    """
    there = set(store.keys())
    missing = sorted({"network", "own"} - there)
    if missing and there:
        raise ValueError(
            "Expected a file of a `DebiasedModel`, with its checksums. "
            f"Received: a file without those of {missing}: it is damaged. "
            "Take another copy."
        )
    for name, variables in parts().items():
        if name not in there:
            continue
        said, found = np.asarray(store[name]), _digests(variables)
        sound = said.shape == found.shape and said.dtype == found.dtype
        # The last one is of the other two: damage must not look like a type.
        sound = sound and bytes(said[2 * _SIZE :]) == _hash(said[: 2 * _SIZE])
        if sound and not np.array_equal(said[:_SIZE], found[:_SIZE]):
            continue
        if not sound or not np.array_equal(said, found):
            raise ValueError(
                f"Expected the values of '{name}' that were saved. Received: "
                "a file with others, by its checksum: it is damaged. Take "
                "another copy."
            )


def _digests(variables) -> np.ndarray:
    """Hashes of shapes and types, of the values, and of these two."""
    kinds, values = hashlib.sha256(), hashlib.sha256()
    for variable in variables:
        value = np.asarray(ops.convert_to_numpy(variable))
        kinds.update(f"{value.shape}{variable.dtype}".encode())
        values.update(np.ascontiguousarray(value).tobytes())
    both = kinds.digest() + values.digest()
    return np.frombuffer(both + _hash(both), dtype="uint8").copy()


def _hash(data) -> bytes:
    return hashlib.sha256(bytes(data)).digest()


def with_checksum(config: dict) -> dict:
    """A configuration with its hash."""
    return {**config, CHECKSUM: _digest(config)}


def without_checksum(config: dict, needed=()) -> dict:
    """A configuration without its hash.

    Raises:
        ValueError: If it has another hash, or lacks a part.
    """
    if not isinstance(config, dict) or not set(needed) <= set(config):
        raise ValueError(
            "Expected the configuration of a `DebiasedModel`, a dict with "
            f"{sorted(needed)}. Received: {str(config)[:200]}"
        )
    rest = {k: v for k, v in config.items() if k != CHECKSUM}
    if CHECKSUM in config and config[CHECKSUM] != _digest(rest):
        raise ValueError(
            "Expected the configuration that was saved. Received: another, "
            "by its checksum: it is damaged or was edited. For other "
            f"settings on purpose, remove its entry '{CHECKSUM}'."
        )
    return rest


def _digest(config) -> str:
    # As it is written: tuples and objects by name.
    plain = keras.saving.serialize_keras_object(config)
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
