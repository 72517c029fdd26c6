"""The teacher's features of all training rows, for `TeacherCache`."""

import hashlib

import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.merge import disabled
from keras_debias.data.batches import Batches
from keras_debias.data.batches import take_rows

# Rows computed anew to see whether a cache is that of this teacher.
_PROBES = 8
_TOLERANCE = 1e-3


def split_at_head(network) -> tuple[keras.Model, keras.Model]:
    """The part of a classifier that only adapters change, and the rest.

    Returns:
        `(encoder, head)`, two models that share the network's layers.

    Raises:
        ValueError: If the network cannot be cut before its first layer that
            trains whole.
    """
    adapted = adapted_layers(network).values()
    of_adapters = {
        id(variable)
        for layer in adapted
        for adapter in adapters_of(layer)
        for variable in adapter.state(layer).values()
    }
    whole = [
        layer
        for layer in getattr(network, "layers", ())
        if any(id(v) not in of_adapters for v in layer.trainable_variables)
    ]
    try:
        cut = whole[0].input
        encoder = keras.Model(network.input, cut)
        head = keras.Model(cut, network.output)
    except (AttributeError, IndexError, ValueError) as error:
        raise ValueError(
            "Expected a functional classifier with a head that trains and an "
            "encoder before it, for `cache=`. Received: "
            f"model={network.name!r}, which cannot be cut there. Leave "
            "`cache` out: the teacher then runs in each step."
        ) from error
    trainable_in_encoder = [
        v for v in encoder.trainable_variables if id(v) not in of_adapters
    ]
    inside = {id(layer) for layer in _keras_internals.flatten_layers(head)}
    late = [layer.name for layer in adapted if id(layer) in inside]
    if trainable_in_encoder or late:
        raise ValueError(
            "Expected an encoder in which only adapters train, and a head "
            "without any, for `cache=`. Received: "
            f"{[v.path for v in trainable_in_encoder] + late} that break "
            "this. Leave `cache` out: the teacher then runs in each step."
        )
    return encoder, head


def cached_features(network, encoder, cache, batches) -> np.ndarray:
    """The features of all rows of `batches`, computed if not yet there.

    Raises:
        ValueError: If the cache holds other rows, or another teacher's.
    """
    rows = _digest(batches.x)

    def compute(x):
        data = Batches(
            x, batch_size=batches.batch_size, preprocess=batches.preprocess
        )
        with disabled(network):
            return np.asarray(encoder.predict(data, verbose=0))

    if not cache.load():
        cache.store(compute(batches.x), rows)
        return cache.features
    found = len(cache.features)
    if cache.rows != rows:
        raise ValueError(
            "Expected a cache of this training set, of "
            f"{batches.rows} rows. Received: a stale one, of {found} rows "
            "that are others or in another order. Call `cache.clear()`, or "
            "use a `TeacherCache` for each training set."
        )
    probes = np.unique(np.linspace(0, found - 1, _PROBES).astype(int))
    fresh, kept = compute(take_rows(batches.x, probes)), cache.features[probes]
    change = float("inf")
    if fresh.shape == kept.shape:
        change = np.abs(fresh.astype("float32") - kept).max()
    if not change <= _TOLERANCE * max(1.0, np.abs(kept).max()):
        raise ValueError(
            "Expected a cache of this teacher. Received: a stale one, whose "
            f"features differ by up to {change:.3g} from those of the "
            "network without its adapters. Call `cache.clear()`."
        )
    return cache.features


def _digest(x) -> str:
    digest = hashlib.sha256()
    for leaf in keras.tree.flatten(x):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        if leaf.dtype == object:
            for value in leaf.ravel():
                text = (
                    value if isinstance(value, bytes) else str(value).encode()
                )
                digest.update(len(text).to_bytes(8, "little") + text)
        else:
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
