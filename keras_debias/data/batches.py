"""Batches for `fit`: shuffled by (seed, epoch), preprocessed, with indices."""

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_debias.data.image_files import ImageFiles

# Names in a batch of the inputs of the network and of what comes with them. No
# input of a network has such a name.
INPUTS = "keras_debias/inputs"
INDEX = "keras_debias/index"
GROUPS = "keras_debias/groups"
FEATURES = "keras_debias/features"


def _map(structure, function):
    """Maps over arrays.

    A list of arrays is a structure, as in Keras, and comes back as a tuple;
    any other list is one array.
    """
    if isinstance(structure, dict):
        return {k: _map(v, function) for k, v in structure.items()}
    if isinstance(structure, tuple) or _is_structure(structure):
        return tuple(_map(v, function) for v in structure)
    return function(structure)


def _is_structure(value) -> bool:
    """Whether a list holds arrays, rather than numbers, texts or rows."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(each, dict) or len(getattr(each, "shape", ())) > 0
            for each in value
        )
    )


def _leaves(structure) -> list:
    found = []
    _map(structure, found.append)
    return found


def to_array(value) -> np.ndarray:
    """Any array, tensor or list as NumPy, with Keras' default widths.

    Images in files stay there: their rows are read when they are taken.
    """
    if isinstance(value, ImageFiles):
        return value
    narrow = not hasattr(value, "dtype")
    if hasattr(value, "dtype") and not isinstance(value, np.ndarray):
        if hasattr(value, "numpy") and not keras.ops.is_tensor(value):
            value = value.numpy()
        else:
            value = ops.convert_to_numpy(value)
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype == "float64" and keras.config.floatx() != "float64":
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


def take_rows(structure, rows):
    return _map(structure, lambda leaf: leaf[rows])


class Batches(keras.utils.PyDataset):
    """Batches of arrays, shuffled deterministically by (seed, epoch).

    A run that is killed and resumed sees the same batches as one that was not.
    With `steps` set, an epoch has that many batches. The next epoch continues
    where it ended, and rows are shuffled again after each pass over them.

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
            `{INPUTS: x, INDEX: i}`, and `GROUPS` where there are some.
            Defaults to `False`.
        shard: pair of ints `(number, count)`. Which of how many equal parts
            of each batch to give, for one of several processes. The last
            parts of a small batch are smaller; one without any row gets a
            row in place of it, with the index -1. Defaults to `(0, 1)`.
        sampler: function of a `numpy.random.Generator` and the number of the
            pass to an int array `(n,)`, the rows of that pass in their order,
            such as a `BalancedSampler`; or `None`. Takes the place of
            `shuffle`.
        convert: function from an array of strings to its form for the backend,
            or `None`. For inputs that are not preprocessed.

    Attributes:
        features: array with `n` rows, or `None`. What a teacher computed for
            each row; batches hold it as `FEATURES`, with the index.
        first: int or `None`. With `steps`, the number of batches before this
            epoch; `None` where all epochs have the same number.
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
        convert=None,
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
        self.first = None
        self.batch_size = 32 if batch_size is None else batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.steps = steps
        self.convert = convert
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
            before = (
                self.epoch * self.steps if self.first is None else self.first
            )
            number, index = divmod(before + index, batches)
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
        x, y = take_rows(self.x, rows), None
        if self.y is not None:
            y = take_rows(self.y, rows)
        sample_weight = None
        if self.sample_weight is not None:
            sample_weight = take_rows(self.sample_weight, rows)
        x, y, sample_weight = preprocess_batch(
            self.preprocess, x, y, sample_weight
        )
        if self.convert is not None:
            x = converted(self.convert, x)
        if self.with_index:
            numbers = np.full_like(rows, -1) if is_empty else rows
            x = {INPUTS: x, INDEX: numbers.astype("int32")}
            if self.groups is not None:
                x[GROUPS] = self.groups[rows]
            if self.features is not None:
                x[FEATURES] = self.features[rows]
        return _pack(x, y, sample_weight)


def has_strings(x) -> bool:
    """Whether some of the inputs are texts in NumPy or lists."""
    leaves = [leaf for leaf in _leaves(x) if not ops.is_tensor(leaf)]
    return any(np.asarray(leaf).dtype.kind in "OUS" for leaf in leaves)


def converted(convert, x):
    """The inputs, with strings as the backend takes them."""
    return _map(x, lambda a: convert(a) if a.dtype.kind == "O" else a)


def preprocess_batch(preprocess, x, y, sample_weight):
    """One batch through a KerasHub preprocessor, as NumPy arrays."""
    if preprocess is None:
        return x, y, sample_weight
    # Object arrays of strings become lists: tokenizers take those.
    x = _map(x, lambda a: a.tolist() if a.dtype == object else a)
    x, y, sample_weight = weighted(preprocess, x, y, sample_weight)
    return tuple(
        None if part is None else tree.map_structure(to_array, part)
        for part in (x, y, sample_weight)
    )


def weighted(preprocess, x, y=None, sample_weight=None) -> tuple:
    """A batch through a preprocessor that may make weights of its own.

    A preprocessor of causal language models gives weights to the tokens that
    are not padding, and drops the weights of the rows. Here both are
    multiplied.
    """
    packed = preprocess(x, y=y, sample_weight=sample_weight)
    x_out, y_out, weights = keras.utils.unpack_x_y_sample_weight(packed)
    if (
        sample_weight is None
        or weights is None
        or keras.tree.is_nested(weights)
    ):
        return x_out, y_out, weights
    rank = len(np.shape(sample_weight))
    if len(weights.shape) == rank:
        return x_out, y_out, weights
    packed = preprocess(x, y=y)
    _, _, tokens = keras.utils.unpack_x_y_sample_weight(packed)
    if isinstance(sample_weight, np.ndarray):
        tokens = to_array(tokens).astype("float32")
    else:
        # Inside the graph of a `tf.data.Dataset`.
        import tensorflow as tf

        tokens = tf.cast(tokens, "float32")
        sample_weight = tf.cast(sample_weight, "float32")
    more = (..., *[None] * (len(tokens.shape) - rank))
    return x_out, y_out, tokens * sample_weight[more]


def _pack(x, y, sample_weight):
    if sample_weight is not None:
        return x, y, sample_weight
    return (x,) if y is None else (x, y)


def _collated(part):
    """Arrays from a batch in which lists may hold fields, or strings."""
    if isinstance(part, (list, tuple)):
        if part and isinstance(part[0], (str, bytes)):
            return np.asarray(part, dtype=object)
        return tuple(_collated(field) for field in part)
    if isinstance(part, dict):
        return {name: _collated(field) for name, field in part.items()}
    return to_array(part)


def unpack_batch(batch) -> tuple:
    """`(x, y, sample_weight)` of a user's batch, as arrays."""
    if isinstance(batch, (list, tuple)):
        # Strings alone are rows of `x`, not three parts of a batch.
        if batch and all(isinstance(each, (str, bytes)) for each in batch):
            batch = (list(batch),)
        batch = tuple(batch)
    parts = keras.utils.unpack_x_y_sample_weight(batch)
    return tuple(None if p is None else _collated(p) for p in parts)


class OrderedBatches(keras.utils.PyDataset):
    """A user's `PyDataset`, shuffled by (seed, epoch) and preprocessed.

    Args:
        batches: a `keras.utils.PyDataset`.
        preprocess: see `Batches`.
        shuffle: bool. Whether the batches come in another order each epoch.
            One without a length comes as it is.
    """

    def __init__(self, batches, preprocess=None, shuffle=False):
        # A preprocessor belongs to this process.
        own = preprocess is None
        super().__init__(
            workers=batches.workers if own else 1,
            use_multiprocessing=batches.use_multiprocessing and own,
            max_queue_size=batches.max_queue_size,
        )
        self.batches = batches
        self.preprocess = preprocess
        self.shuffle = shuffle
        self.seed = 0
        self.epoch = 0

    @property
    def num_batches(self):
        return self.batches.num_batches

    def __getitem__(self, index):
        count = self.num_batches
        if self.shuffle and count is not None:
            generator = np.random.default_rng([self.seed, self.epoch])
            index = int(generator.permutation(count)[index])
        batch = self.batches[index]
        if self.preprocess is None:
            return batch
        return _pack(*preprocess_batch(self.preprocess, *unpack_batch(batch)))

    def on_epoch_begin(self):
        self.batches.on_epoch_begin()

    def on_epoch_end(self):
        self.batches.on_epoch_end()


class RowBatches(keras.utils.PyDataset):
    """Rows of an indexable dataset as batches, as `Batches` does of arrays.

    Args:
        rows: object with `len()` whose items are one row each.
        collate: function of a list of rows to a batch.
        batch_size: int. Defaults to `32`.
        preprocess, shuffle: see `Batches`.
    """

    def __init__(
        self, rows, collate, batch_size=None, preprocess=None, shuffle=False
    ):
        super().__init__()
        self.rows = rows
        self.collate = collate
        self.batch_size = 32 if batch_size is None else batch_size
        self.preprocess = preprocess
        self.shuffle = shuffle
        self.seed = 0
        self.epoch = 0

    @property
    def num_batches(self):
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index):
        order = np.arange(len(self.rows))
        if self.shuffle:
            generator = np.random.default_rng([self.seed, self.epoch])
            order = generator.permutation(len(self.rows))
        start = index * self.batch_size
        chosen = order[start : start + self.batch_size]
        batch = self.collate([self.rows[int(row)] for row in chosen])
        return _pack(*preprocess_batch(self.preprocess, *unpack_batch(batch)))


class IteratedBatches(keras.utils.PyDataset):
    """Preprocesses a user's batches, whose number is known.

    Args:
        batches: anything with `len()` that can be iterated over again and
            again and yields `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        preprocess: see `Batches`.
    """

    def __init__(self, batches, preprocess):
        super().__init__()
        self.batches = batches
        self.preprocess = preprocess
        self._iterator = None

    @property
    def num_batches(self):
        return len(self.batches)

    def __getitem__(self, index):
        if index == 0 or self._iterator is None:
            self._iterator = iter(self.batches)
        batch = unpack_batch(next(self._iterator))
        return _pack(*preprocess_batch(self.preprocess, *batch))


def preprocessed(batches, preprocess):
    """A generator of a user's batches through a KerasHub preprocessor."""
    for batch in batches:
        yield _pack(*preprocess_batch(preprocess, *unpack_batch(batch)))
