"""`FrozenFeatures`: one vector a row from a pretrained encoder."""

import collections
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any
from typing import ClassVar

import keras
import numpy as np
import safetensors
import safetensors.numpy

from keras_debias.data.batches import num_rows
from keras_debias.data.batches import take_rows
from keras_debias.data.batches import to_arrays
from keras_debias.data.checks import is_text
from keras_debias.data.image_files import ImageFiles
from keras_debias.data.split import Split
from keras_debias.features.encoders import pooled_encoder
from keras_debias.utils.files import atomic_write

# Shapes of text batches: few, so that compiled backends retrace rarely.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
PROGRESS_AFTER_SECONDS = 5.0
# Results that this process keeps, by content: groups are inferred for every
# method and seed of a comparison, on the same rows.
MEMORY_BYTES = 256 * 2**20
# Entries of a config that hold names of layers.
NAMES = ("name", "input_layers", "output_layers", "inbound_nodes")
# What reading a damaged file may raise.
_UNREADABLE = (KeyError, MemoryError, OSError, TypeError, ValueError)


class FrozenFeatures:
    """Computes one feature vector a row with a pretrained encoder.

    Nothing is trained. The vector of a text is the mean of the encoder's
    last hidden states over its tokens, without padding; the vector of an
    image is the mean over all positions. Each text of a pair is encoded by
    itself, and `[u, v, |u - v|, u * v]` is the vector of the pair. Any other
    network gives the inputs of its last `Dense` layer.

    Texts are sorted by length, so that batches need little padding; equal
    texts are encoded once. Results are kept by content in memory and, with
    `cache_dir`, on disk: the same rows and the same weights are never
    encoded twice.

    Args:
        model: a KerasHub task or backbone, a `DebiasedModel`, any other
            `keras.Model` that ends in a `Dense` layer, or a function of a
            `Split` to a float array of shape `(n, width)`. It runs in its
            own dtype policy: a task in `"mixed_bfloat16"` takes half the
            time where the processor supports bfloat16.
        batch_size: int. Defaults to `64`.
        cache_dir: path of a folder, or `None`. Defaults to `None`: results
            are kept in memory only.
        verbose: int. `1` shows a progress bar where it takes over five
            seconds, `0` shows none. Defaults to `1`.

    Raises:
        ValueError: If the model has no features that can be read (the error
            says what to pass instead), or `batch_size` is below 1.
        TypeError: If `model`, `batch_size` or `cache_dir` is of another type.

    Example:

    ```python
    features = kd.features.FrozenFeatures(classifier)
    vectors = features(train)  # (n, 384) for MiniLM, float32
    ```

    Reference:
        Mean pooling and the vector of a pair:
        [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084) (they
        train on `[u, v, |u - v|]`).
    """

    _memory: ClassVar[collections.OrderedDict] = collections.OrderedDict()

    def __init__(
        self,
        model: keras.Model | Callable,
        batch_size: int = 64,
        cache_dir: str | os.PathLike | None = None,
        verbose: int = 1,
    ):
        if isinstance(batch_size, bool) or not isinstance(
            batch_size, (int, np.integer)
        ):
            raise TypeError(
                "Expected `batch_size` to be an integer. Received: "
                f"batch_size={batch_size!r}"
            )
        if batch_size < 1:
            raise ValueError(
                "Expected `batch_size` of at least 1. Received: "
                f"batch_size={batch_size}"
            )
        if cache_dir is not None and not isinstance(
            cache_dir, (str, os.PathLike)
        ):
            raise TypeError(
                "Expected `cache_dir` to be a path or None. Received: "
                f"cache_dir={cache_dir!r}"
            )
        self.batch_size = int(batch_size)
        self.cache_dir = None if cache_dir is None else pathlib.Path(cache_dir)
        self.verbose = verbose
        self._encoder: Any = None
        self._function = None
        self._identity = ""
        if isinstance(model, keras.Model):
            self._encoder = pooled_encoder(model)
        elif callable(model):
            self._function = model
        else:
            raise TypeError(
                "Expected `model` to be a `keras.Model`, or a function of a "
                f"split to an array of features. Received: model={model!r}"
            )

    def __call__(self, split: Split) -> np.ndarray:
        """Returns the features of a split.

        Args:
            split: `kd.data.Split`; its labels are not used.

        Returns:
            A float32 array of shape `(n, width)`.

        Raises:
            ValueError: If features are not finite or not one row each, or the
                model has no preprocessor for texts.
            TypeError: If `split` is not a `Split`.
        """
        if not isinstance(split, Split):
            raise TypeError(
                f"Expected a `kd.data.Split`. Received: {type(split).__name__}"
            )
        if self._function is not None:
            return _checked(self._function(split), len(split))
        # At each call: the model may have been trained since the last.
        self._identity = _fingerprint(self._encoder)
        x = split.x
        if isinstance(x, tuple) and len(x) == 2 and all(map(is_text, x)):
            first, second = (self._part(texts) for texts in x)
            parts = [first, second, np.abs(first - second), first * second]
            return np.concatenate(parts, axis=1)
        if isinstance(x, tuple) and all(map(is_text, x)):
            return np.concatenate([self._part(texts) for texts in x], axis=1)
        return self._part(x)

    def _part(self, x) -> np.ndarray:
        """Features of one array of texts or images, from a cache if known."""
        key = f"{self._identity}-{_digest(x)}"
        found = self._memory.get(key)
        if found is None:
            found = self._read(key)
        if found is None:
            found = self._compute(x)
            self._write(key, found)
        self._memory[key] = found
        self._memory.move_to_end(key)
        while (
            len(self._memory) > 1
            and sum(each.nbytes for each in self._memory.values())
            > MEMORY_BYTES
        ):
            self._memory.popitem(last=False)
        # The caller may change it in place.
        return found.copy()

    def _compute(self, x) -> np.ndarray:
        if is_text(x):
            return self._compute_texts(x)
        arrays = to_arrays(x)
        rows = num_rows(arrays)
        preprocess = self._encoder.preprocess
        found = []
        bar = _Bar(rows, self.verbose)
        for start in range(0, rows, self.batch_size):
            batch = take_rows(arrays, slice(start, start + self.batch_size))
            if preprocess is not None and not isinstance(batch, dict):
                batch = preprocess(batch)
            found.append(self._predict(batch))
            bar.add(len(found[-1]))
        return _checked(np.concatenate(found), rows)

    def _compute_texts(self, texts) -> np.ndarray:
        preprocess = self._encoder.preprocess
        if preprocess is None:
            raise ValueError(
                "Expected a model with a preprocessor for texts, such as a "
                f"KerasHub task. Received: {self._encoder.name!r} without. "
                "Pass a function of a split to its features instead."
            )
        # As objects: a NumPy string array is as wide as its longest text.
        distinct, inverse = np.unique(texts, return_inverse=True)
        # By length in characters first: texts of one chunk are tokenized to
        # one padded length.
        order = np.argsort([len(text) for text in distinct], kind="stable")
        found: Any = None
        bar = _Bar(len(distinct), self.verbose)
        chunk = 64 * self.batch_size
        for start in range(0, len(order), chunk):
            rows = order[start : start + chunk]
            # Tokenizers of byte pairs take lists, and no arrays.
            inputs = preprocess(distinct[rows].tolist())
            inputs = {k: np.asarray(v) for k, v in inputs.items()}
            lengths = inputs["padding_mask"].sum(axis=1).astype(int)
            by_length = np.argsort(lengths, kind="stable")
            for at in range(0, len(rows), self.batch_size):
                batch = by_length[at : at + self.batch_size]
                width = _bucket(lengths[batch].max(), inputs)
                part = {k: v[batch, :width] for k, v in inputs.items()}
                size = min(_rows_bucket(len(batch)), self.batch_size)
                values = self._predict(_padded(part, size))
                values = values[: len(batch)]
                if found is None:
                    found = np.empty(
                        (len(distinct), values.shape[1]), "float32"
                    )
                found[rows[batch]] = values
                bar.add(len(batch))
        return _checked(found[inverse.reshape(-1)], len(texts))

    def _predict(self, inputs) -> np.ndarray:
        outputs = self._encoder.model.predict_on_batch(inputs)
        outputs = np.asarray(outputs, dtype="float32")
        return outputs.reshape(len(outputs), -1)

    def _path(self, key):
        return self.cache_dir / f"features-{key}.safetensors"

    def _read(self, key):
        if self.cache_dir is None or not self._path(key).is_file():
            return None
        try:
            found = safetensors.numpy.load_file(self._path(key))
            features, said = found["features"], found["checksum"]
        except (*_UNREADABLE, safetensors.SafetensorError):
            # Computed again, and replaced.
            return None
        return features if np.array_equal(said, _sum(features)) else None

    def _write(self, key, found):
        if self.cache_dir is not None:
            with atomic_write(self._path(key)) as temporary:
                tensors = {"features": found, "checksum": _sum(found)}
                safetensors.numpy.save_file(tensors, temporary)


class _Bar:
    """A progress bar that appears once something takes long."""

    def __init__(self, total, verbose):
        self.total, self.verbose = total, verbose
        self.done = 0
        self.began = time.perf_counter()
        self.bar = None

    def add(self, rows):
        self.done += rows
        if not self.verbose:
            return
        elapsed = time.perf_counter() - self.began
        if self.bar is None and (
            elapsed * self.total > PROGRESS_AFTER_SECONDS * self.done
        ):
            self.bar = keras.utils.Progbar(
                self.total, unit_name="example", verbose=1
            )
        if self.bar is not None:
            self.bar.update(self.done)


def _bucket(length, inputs) -> int:
    longest = inputs["padding_mask"].shape[1]
    fitting = [width for width in LENGTHS if width >= length]
    return min(fitting[0] if fitting else longest, longest)


def _rows_bucket(rows) -> int:
    """A power of two: of the last batches there are few shapes, too."""
    return max(8, 1 << (int(rows) - 1).bit_length())


def _padded(part, rows) -> dict:
    """The same batch with its last row repeated to `rows` rows."""
    missing = rows - len(part["padding_mask"])
    if missing <= 0:
        return part
    return {
        name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])
        for name, value in part.items()
    }


def _checked(features, rows) -> np.ndarray:
    features = np.asarray(features, dtype="float32")
    if features.ndim != 2 or len(features) != rows:
        raise ValueError(
            f"Expected features of shape ({rows}, width). Received: shape "
            f"{features.shape}. Are they of another split?"
        )
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise ValueError(
            f"Expected finite features. Received: {bad} of {rows} rows with "
            "NaN or infinite values. Use float32 or bfloat16 weights."
        )
    return features


def _digest(x) -> str:
    digest = hashlib.sha256()
    parts = [("", x)]
    if isinstance(x, dict):
        parts = sorted(x.items())
    elif isinstance(x, tuple):
        parts = [(str(number), part) for number, part in enumerate(x)]
    for name, values in parts:
        digest.update(name.encode())
        if is_text(values):
            for text in values:
                encoded = text.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        elif isinstance(values, ImageFiles):
            digest.update(str(values.shape).encode())
            digest.update("".join(values.digests()).encode())
        else:
            digest.update(str((values.dtype, values.shape)).encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:24]


def _sum(features) -> np.ndarray:
    """A hash of features, to know them by when they are read."""
    found = hashlib.sha256(f"{features.dtype}{features.shape}".encode())
    found.update(np.ascontiguousarray(features).tobytes())
    return np.frombuffer(found.digest(), dtype="uint8")


def _fingerprint(encoder) -> str:
    """A hash of the encoder's layers, weights and preprocessor."""
    digest = hashlib.sha256()
    digest.update(encoder.description.encode())
    # A method of the preprocessor, of the task that has it, or itself.
    owner = getattr(encoder.preprocess, "__self__", encoder.preprocess)
    preprocessor = getattr(owner, "preprocessor", owner)
    if preprocessor is not None:
        digest.update(_described(preprocessor).encode())
        # Not in its config.
        tokenizer = getattr(preprocessor, "tokenizer", None)
        for name in ("vocabulary", "merges", "proto"):
            value = getattr(tokenizer, name, None)
            # Others are spelled by their address.
            if not isinstance(value, (bytes, dict, list, str, tuple)):
                continue
            digest.update(repr(value).encode("utf-8", "surrogatepass"))
    # Equal weights give other features with another activation or policy.
    for operation in encoder.model.operations:
        digest.update(_described(operation).encode())
    for variable in encoder.model.variables:
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        digest.update(str((value.dtype, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:24]


def _described(operation) -> str:
    """The class, dtype policy and settings of a layer, without its name."""
    try:
        config = operation.get_config()
    # KerasHub's Llama, for one, raises an error of its own.
    except Exception:  # noqa: BLE001
        config = {}
    config = {k: _nameless(v) for k, v in config.items() if k not in NAMES}
    policy = getattr(operation, "dtype_policy", None)
    parts = [type(operation).__qualname__, getattr(policy, "name", ""), config]
    return json.dumps(parts, sort_keys=True, default=_spelled)


def _nameless(value):
    """A config without names: Keras numbers layers through a process."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return value
        return {k: _nameless(v) for k, v in value.items() if k not in NAMES}
    if isinstance(value, (list, tuple)):
        return [_nameless(each) for each in value]
    return value


def _spelled(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    # Without the address, which differs in every process.
    return getattr(value, "__qualname__", type(value).__qualname__)
