"""Hashes of the inputs of a comparison."""

import hashlib
import json

import keras
import numpy as np

from keras_debias.data.image_files import ImageFiles
from keras_debias.data.overlapping_groups import OverlappingGroups


def digest(value) -> str:
    """A short hash of anything JSON can hold."""
    text = json.dumps(value, sort_keys=True, default=_spelled)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value):
    """The value in terms of JSON types."""
    return json.loads(json.dumps(value, default=_spelled))


def _spelled(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    # Without the address, which differs in every process.
    return getattr(value, "__qualname__", type(value).__qualname__)


def of_split(split) -> str | None:
    """The hash of a `Split`, without its name."""
    if split is None:
        return None
    found = hashlib.sha256()

    def add(part):
        if isinstance(part, dict):
            for name in sorted(part):
                found.update(repr(name).encode())
                add(part[name])
        elif isinstance(part, tuple):
            for one in part:
                add(one)
        elif isinstance(part, np.ndarray) and part.dtype != object:
            found.update(str((part.dtype, part.shape)).encode())
            found.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, ImageFiles):
            found.update(str(part.shape).encode())
            found.update("".join(part.digests()).encode())
        elif isinstance(part, np.ndarray):
            found.update(json.dumps(part.tolist(), default=str).encode())
        else:
            found.update(repr(part).encode())

    add(split.x)
    for part in (split.y, split.sample_weight, split.label_names):
        add(part)
    if split.groups is not None:
        overlapping = isinstance(split.groups, OverlappingGroups)
        add(split.groups.matrix if overlapping else split.groups.ids)
        add(split.groups.names)
    return found.hexdigest()[:16]


def of_model(model) -> str:
    """The hash of a network's weights' shapes and of how it is compiled.

    Names are left out: Keras numbers layers and losses through a process.
    """
    weights = [
        [list(v.shape), v.dtype, bool(v.trainable)] for v in model.variables
    ]
    return digest([weights, _nameless(plain(model.get_compile_config()))])


def _nameless(value):
    if isinstance(value, dict):
        return {k: _nameless(v) for k, v in value.items() if k != "name"}
    if isinstance(value, list):
        return [_nameless(v) for v in value]
    return value


def of_value(value):
    """The configuration of a registered object, as plain JSON."""
    return plain(keras.saving.serialize_keras_object(value))
