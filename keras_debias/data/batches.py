"""Batches for `fit`: shuffled by (seed, epoch), preprocessed, with indices."""

import keras
import numpy as np
from keras import ops
from keras import tree


def _map(structure, function):
    """Maps over arrays; a list is one array, as in `tf.data`."""
    if isinstance(structure, dict):
        return {k: _map(v, function) for k, v in structure.items()}
    if isinstance(structure, tuple):
        return tuple(_map(v, function) for v in structure)
    return function(structure)


def _leaves(structure) -> list:
    found = []
    _map(structure, found.append)
    return found


def to_array(value) -> np.ndarray:
    """Any array, tensor or list as NumPy, with Keras' default widths."""
    narrow = not hasattr(value, "dtype")
    if hasattr(value, "dtype") and not isinstance(value, np.ndarray):
        if hasattr(value, "numpy") and not keras.ops.is_tensor(value):
            value = value.numpy()
        else:
            value = ops.convert_to_numpy(value)
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype == "float64":
        return array.astype("float32")
    if narrow and array.dtype == "int64":
        return array.astype("int32")
    return array


def to_arrays(structure):
    return _map(structure, to_array)


def num_rows(structure) -> int:
    """The common length of all arrays."""
    lengths = {len(leaf) for leaf in _leaves(structure)}
    if len(lengths) != 1:
        raise ValueError(
            "Expected `x`, `y` and `sample_weight` of one length. "
            f"Received: lengths {sorted(lengths)}"
        )
    return lengths.pop()


def take(structure, rows):
    return _map(structure, lambda leaf: leaf[rows])


class Batches(keras.utils.PyDataset):
    """Arrays as batches, in an order that (seed, epoch) alone decides.

    A run that is killed and resumed sees the same batches as one that was
    not. With `steps` set, an epoch is so many batches and the next goes on
    where it ended, reshuffling after each pass over the rows.

    Args:
        x: array, or dict or tuple of arrays (strings too) with `n` rows.
        y: array or structure with `n` rows, or `None`.
        sample_weight: array with `n` rows, or `None`.
        groups: int array `(n,)` of group ids, or `None`.
        batch_size: int. Defaults to `32`.
        shuffle: bool. Defaults to `False`.
        seed: int. Seed of the order. Defaults to `0`.
        steps: int or `None`. Batches an epoch; all by default.
        preprocess: function `(x, y, sample_weight)` to the same packed, or
            `None`. Called for each batch.
        with_index: bool. Whether inputs come as
            `{"inputs": x, "index": i}`, and `"groups"` where there are some.
            Defaults to `False`.
        shard: pair of ints `(number, count)`. Which of how many equal parts
            of each batch to give, for one of several processes. The last
            parts of a small batch are smaller; one without any row gets a
            row in place of it, with the index -1. Defaults to `(0, 1)`.
        sampler: function of a `numpy.random.Generator` and the number of the
            pass to an int array `(n,)`, the rows of that pass in their order,
            such as a `BalancedSampler`; or `None`. Takes the place of
            `shuffle`.

    Attributes:
        features: array with `n` rows, or `None`. What a teacher computed for
            each row, to travel as `"features"` beside the index.
    """

    def __init__(
        self,
        x,
        y=None,
        sample_weight=None,
        groups=None,
        batch_size=None,
        shuffle=False,
        seed=0,
        steps=None,
        preprocess=None,
        with_index=False,
        shard=(0, 1),
        sampler=None,
    ):
        super().__init__()
        self.x, self.y = to_arrays(x), None if y is None else to_arrays(y)
        self.sample_weight = (
            None if sample_weight is None else to_arrays(sample_weight)
        )
        present = (self.x, self.y, self.sample_weight, groups)
        self.rows = num_rows(tuple(p for p in present if p is not None))
        if not self.rows:
            raise ValueError("Expected at least one row. Received: none")
        self.groups = groups
        self.features = None
        self.batch_size = batch_size or 32
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.steps = steps
        self.preprocess = preprocess
        self.with_index = with_index
        self.shard = shard
        self.sampler = sampler
        self._order = (None, None)

    @property
    def num_batches(self):
        return self.steps or -(-self.rows // self.batch_size)

    def order(self, number: int) -> np.ndarray:
        """The order of the rows in one pass over them."""
        if not self.shuffle and self.sampler is None:
            return np.arange(self.rows)
        key, order = self._order
        if key != (self.seed, number):
            generator = np.random.default_rng([self.seed, number])
            if self.sampler is None:
                order = generator.permutation(self.rows)
            else:
                order = self._check_order(self.sampler(generator, number))
            self._order = ((self.seed, number), order)
        return order

    def _check_order(self, order) -> np.ndarray:
        order = np.asarray(order)
        if order.shape != (self.rows,) or order.dtype.kind not in "iu":
            raise ValueError(
                f"Expected `sampler` to return {self.rows} row indices, as "
                f"many as there are rows. Received: shape {order.shape}, "
                f"dtype {order.dtype}. Was it made for other data?"
            )
        if order.min() < 0 or order.max() >= self.rows:
            raise ValueError(
                f"Expected `sampler` to return rows from 0 to {self.rows - 1}."
                f" Received: rows from {order.min()} to {order.max()}"
            )
        return order

    def rows_of(self, index: int) -> np.ndarray:
        """The rows of one batch of the present epoch."""
        batches = -(-self.rows // self.batch_size)
        if self.steps:
            number, index = divmod(self.epoch * self.steps + index, batches)
        else:
            number = self.epoch
        start = index * self.batch_size
        return self.order(number)[start : start + self.batch_size]

    def __getitem__(self, index):
        rows = self.rows_of(index)
        number, count = self.shard
        size = -(-len(rows) // count)
        part = rows[number * size : (number + 1) * size]
        is_empty = not len(part)
        rows = rows[:1] if is_empty else part
        x, y = take(self.x, rows), None
        if self.y is not None:
            y = take(self.y, rows)
        sample_weight = None
        if self.sample_weight is not None:
            sample_weight = take(self.sample_weight, rows)
        x, y, sample_weight = preprocess_batch(
            self.preprocess, x, y, sample_weight
        )
        if self.with_index:
            numbers = np.full_like(rows, -1) if is_empty else rows
            x = {"inputs": x, "index": numbers.astype("int32")}
            if self.groups is not None:
                x["groups"] = self.groups[rows]
            if self.features is not None:
                x["features"] = self.features[rows]
        return _pack(x, y, sample_weight)


def preprocess_batch(preprocess, x, y, sample_weight):
    """One batch through a KerasHub preprocessor, as NumPy arrays."""
    if preprocess is None:
        return x, y, sample_weight
    # Object arrays of strings become lists: tokenizers take those.
    x = _map(x, lambda a: a.tolist() if a.dtype == object else a)
    packed = preprocess(x, y=y, sample_weight=sample_weight)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(packed)
    return tuple(
        None if part is None else tree.map_structure(to_array, part)
        for part in (x, y, sample_weight)
    )


def _pack(x, y, sample_weight):
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def _collated(part):
    """Arrays from a batch in which lists may hold fields, or strings."""
    if isinstance(part, (list, tuple)):
        if part and isinstance(part[0], str):
            return np.asarray(part, dtype=object)
        return tuple(_collated(field) for field in part)
    if isinstance(part, dict):
        return {name: _collated(field) for name, field in part.items()}
    return to_array(part)


class PreprocessedBatches(keras.utils.PyDataset):
    """A user's own batches through a KerasHub preprocessor.

    Args:
        batches: a `keras.utils.PyDataset`, or anything else that can be
            iterated over again and again and yields
            `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        preprocess: see `Batches`.
    """

    def __init__(self, batches, preprocess):
        super().__init__()
        self.batches = batches
        self.preprocess = preprocess
        self._iterator = None

    @property
    def num_batches(self):
        if isinstance(self.batches, keras.utils.PyDataset):
            return self.batches.num_batches
        return len(self.batches) if hasattr(self.batches, "__len__") else None

    def __getitem__(self, index):
        if isinstance(self.batches, keras.utils.PyDataset):
            batch = self.batches[index]
        else:
            if index == 0 or self._iterator is None:
                self._iterator = iter(self.batches)
            batch = next(self._iterator)
        if isinstance(batch, list):
            batch = tuple(batch)
        parts = keras.utils.unpack_x_y_sample_weight(batch)
        parts = [None if p is None else _collated(p) for p in parts]
        return _pack(*preprocess_batch(self.preprocess, *parts))

    def on_epoch_begin(self):
        if isinstance(self.batches, keras.utils.PyDataset):
            self.batches.on_epoch_begin()

    def on_epoch_end(self):
        if isinstance(self.batches, keras.utils.PyDataset):
            self.batches.on_epoch_end()
