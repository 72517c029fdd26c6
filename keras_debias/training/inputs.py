"""Converts what `fit`, `evaluate` and `predict` take for Keras."""

import sys

import keras
import numpy as np

from keras_debias.data.batches import GROUPS
from keras_debias.data.batches import INDEX
from keras_debias.data.batches import INPUTS
from keras_debias.data.batches import Batches
from keras_debias.data.batches import IteratedBatches
from keras_debias.data.batches import OrderedBatches
from keras_debias.data.batches import RowBatches
from keras_debias.data.batches import converted
from keras_debias.data.batches import has_strings
from keras_debias.data.batches import num_rows
from keras_debias.data.batches import preprocess_batch
from keras_debias.data.batches import preprocessed
from keras_debias.data.batches import take_rows
from keras_debias.data.batches import to_arrays
from keras_debias.data.batches import weighted
from keras_debias.data.split import Split


def network_inputs(inputs):
    """The inputs of the network, without groups and sample indices."""
    if isinstance(inputs, dict) and INPUTS in inputs:
        return inputs[INPUTS]
    return inputs


def without_inputs(inputs):
    """Everything in a batch but the inputs of the network."""
    if network_inputs(inputs) is inputs:
        return {}
    return {n: inputs[n] for n in (GROUPS, INDEX) if n in inputs}


def _preprocess(model, x):
    """The preprocessing of a KerasHub task, or `None` if there is none.

    A dict of token arrays has been preprocessed already.
    """
    is_done = isinstance(x, dict) and "token_ids" in x
    if model.preprocessor is None or is_done:
        return None
    return model.model.preprocess_samples


def _is_tf_dataset(x) -> bool:
    return hasattr(x, "element_spec") and hasattr(x, "map")


def _is_dataset(x) -> bool:
    """Whether `x` yields batches, rather than being rows."""
    if isinstance(x, keras.utils.PyDataset) or _is_tf_dataset(x):
        return True
    if _is_torch(x, "Dataset"):
        return True
    if isinstance(x, (list, tuple, dict, str)) or hasattr(x, "dtype"):
        return False
    return hasattr(x, "__iter__") and not hasattr(x, "iloc")


def _is_torch(x, name) -> bool:
    """Whether `x` is of a class of `torch.utils.data`."""
    # If torch was never imported, no object is of torch.
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(x, getattr(data, name))


def _length(x) -> int | None:
    try:
        return len(x)
    # An `IterableDataset` has a `__len__` that raises.
    except TypeError:
        return None


def _check_counts(**counts) -> None:
    for name, value in counts.items():
        if value is None:
            continue
        is_count = isinstance(value, (int, np.integer)) and value > 0
        if not is_count or isinstance(value, bool):
            raise ValueError(
                f"Expected `{name}` to be a positive integer or None. "
                f"Received: {name}={value!r}"
            )


class Inputs:
    """The arguments of `fit` and its like, ready for Keras.

    Args:
        model: the `DebiasedModel`.
        x, y, sample_weight: as given to `fit`; `x` may be a `Split`.
        batch_size: int or `None`.
        shuffle: bool.
        class_weight: dict from class to weight, or `None`.
        steps: int or `None`. Batches an epoch.
        with_index: bool. Whether batches carry sample indices and groups.
        sampler: see `Batches`, or `None`.

    Attributes:
        dataset: what to hand to Keras as `x`.
        batches: the `Batches` made of rows, or `None`.
        steps, class_weight: what is left for Keras to do.
    """

    def __init__(
        self,
        model,
        x,
        y=None,
        sample_weight=None,
        batch_size=None,
        shuffle=False,
        class_weight=None,
        steps=None,
        with_index=False,
        sampler=None,
    ):
        self.batches = self.ordered = None
        self.steps, self.class_weight = steps, class_weight
        _check_counts(batch_size=batch_size, steps=steps)
        if isinstance(x, (str, bytes)) or x is None:
            raise TypeError(
                "Expected `x` to be rows or batches. Received: "
                f"x={x!r}. One text is a list of one: `[text]`."
            )
        preprocess = _preprocess(model, x.x if isinstance(x, Split) else x)
        if not isinstance(x, Split) and _is_dataset(x):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "Expected `y` and `sample_weight` inside the batches of a "
                    f"dataset. Received: x={type(x).__name__} and "
                    f"y={type(y).__name__}"
                )
            if sampler is not None:
                raise ValueError(
                    "Expected rows (a `Split` or arrays) with `sampler`. "
                    f"Received: x={type(x).__name__}, which yields batches"
                )
            self.dataset = self._wrap(x, preprocess, batch_size, shuffle)
            if isinstance(self.dataset, (OrderedBatches, RowBatches)):
                self.ordered = self.dataset
            return
        groups = None
        if isinstance(x, Split):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "Expected `y` and `sample_weight` inside the Split. "
                    f"Received: y={type(y).__name__}, "
                    f"sample_weight={type(sample_weight).__name__}"
                )
            names = model.label_names
            if None not in (names, x.label_names) and names != x.label_names:
                x = x.align_labels(names)
            y, sample_weight = x.y, x.sample_weight
            groups = None if x.groups is None else x.groups.ids
            x = x.x
        x, y = to_arrays(x), None if y is None else to_arrays(y)
        if y is not None:
            _check_labels(model, y)
        if class_weight is not None:
            sample_weight = _weigh_classes(class_weight, y, sample_weight)
            self.class_weight = None
        self.batches = self.ordered = self.dataset = Batches(
            x,
            y,
            sample_weight,
            groups=groups,
            batch_size=batch_size,
            shuffle=bool(shuffle),
            steps=steps,
            preprocess=preprocess,
            with_index=with_index,
            # Evaluation is of all rows, in every process.
            shard=model.shard if with_index else (0, 1),
            sampler=sampler,
            convert=model.strings if preprocess is None else None,
        )
        self.steps = None
        _check_parts(self.batches, model.batch_parts)

    @staticmethod
    def _wrap(x, preprocess, batch_size, shuffle):
        """A dataset as one that Keras takes, through the preprocessor."""
        if isinstance(x, keras.utils.PyDataset):
            if preprocess is None and not shuffle:
                return x
            return OrderedBatches(x, preprocess, shuffle=bool(shuffle))
        if _is_torch(x, "Dataset"):
            from torch.utils import data

            if not isinstance(x, data.IterableDataset):
                collate = data.default_collate
                return RowBatches(
                    x, collate, batch_size, preprocess, shuffle=bool(shuffle)
                )
            size = 32 if batch_size is None else batch_size
            x = data.DataLoader(x, batch_size=size)
        if preprocess is None:
            return x
        if _is_tf_dataset(x):
            import tensorflow as tf

            return x.map(
                lambda *batch: keras.utils.pack_x_y_sample_weight(
                    *weighted(preprocess, *batch)
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).prefetch(tf.data.AUTOTUNE)
        if _length(x) is not None:
            return IteratedBatches(x, preprocess)
        if _is_torch(x, "DataLoader"):
            from keras_debias.training.torch_streams import stream

            return stream(x, preprocess)
        return preprocessed(x, preprocess)

    @staticmethod
    def cut(x, y, sample_weight, share):
        """The last `share` of the rows as validation data, as Keras does."""
        if not 0 < share < 1:
            raise ValueError(
                "Expected `validation_split` in (0, 1). "
                f"Received: validation_split={share}"
            )
        if isinstance(x, Split):
            rows, at = np.arange(len(x)), _cut_at(len(x), share)
            # `y` and weights beside a Split are refused with the front.
            return (x.take(rows[:at]), y, sample_weight), (x.take(rows[at:]),)
        if _is_dataset(x):
            raise ValueError(
                "Expected rows with `validation_split`, not batches. "
                f"Received: x={type(x).__name__}. Pass `validation_data`."
            )
        parts = [
            None if p is None else to_arrays(p) for p in (x, y, sample_weight)
        ]
        rows = num_rows(tuple(p for p in parts if p is not None))
        at = _cut_at(rows, share)
        front, back = (
            tuple(None if p is None else take_rows(p, rows) for p in parts)
            for rows in (slice(None, at), slice(at, None))
        )
        return front, back

    @staticmethod
    def one_batch(model, x, y, sample_weight):
        """One batch for `train_on_batch` and its like."""
        preprocess = _preprocess(model, x)
        if preprocess is None:
            if model.strings is not None and has_strings(x):
                x = converted(model.strings, to_arrays(x))
            return x, y, sample_weight
        parts = (
            None if p is None else to_arrays(p) for p in (x, y, sample_weight)
        )
        return preprocess_batch(preprocess, *parts)


def _cut_at(rows: int, share: float) -> int:
    at = int(np.floor(rows * (1 - share)))
    if at in (0, rows):
        raise ValueError(
            "Expected rows on both sides of the split. Received: "
            f"{rows} rows, validation_split={share}"
        )
    return at


def _check_parts(batches, parts):
    """Raises unless several devices can share every batch."""
    full = min(batches.batch_size, batches.rows)
    last = batches.rows % full or full
    if full % parts or last % parts:
        raise ValueError(
            f"Expected batches that {parts} devices can share equally. "
            f"Received: {batches.rows} rows in batches of {full}, the last "
            f"of {last}. Choose another `batch_size`, or leave out "
            f"{last % parts} rows."
        )


def _weigh_classes(class_weight, y, sample_weight):
    if sample_weight is not None:
        raise ValueError(
            "Expected `class_weight` or sample weights, not both. "
            "Received: both"
        )
    if not isinstance(y, np.ndarray):
        raise ValueError(
            "Expected `y` to be one array with `class_weight`. "
            f"Received: y={type(y).__name__}"
        )
    labels = y
    if y.ndim > 1:
        labels = y.argmax(-1) if y.shape[-1] > 1 else y[..., 0]
    # A class that is not named weighs one, as in Keras.
    lookup = {int(label): weight for label, weight in class_weight.items()}
    weights = [lookup.get(int(label), 1.0) for label in labels.ravel()]
    return np.asarray(weights, "float32").reshape(labels.shape)


def _check_labels(model, y):
    """Sparse labels out of range: NaN on one backend, a crash on another."""
    from keras_debias import _keras_internals

    loss = None
    if model.compiled:
        loss = _keras_internals.compiled_loss_arguments(model)[0]
    sparse = keras.losses.SparseCategoricalCrossentropy
    named = ("sparse_categorical_crossentropy",)
    if not (isinstance(loss, sparse) or loss in named):
        return
    if isinstance(y, (tuple, dict)):
        return  # Keras takes the loss for each of several outputs.
    if not isinstance(y, np.ndarray) or y.dtype == object:
        raise TypeError(
            "Expected integer labels. Received: labels of the type "
            f"{getattr(y, 'dtype', type(y))}. A `Split` takes label names."
        )
    if y.dtype.kind == "f" and not (y == np.round(y)).all():
        raise TypeError(
            f"Expected integer labels for the loss {loss}. Received: y with "
            f"fractions (dtype {y.dtype})"
        )
    try:
        shape = model.model.output_shape
    except AttributeError:
        return
    if not (isinstance(shape, tuple) and y.size and isinstance(shape[-1], int)):
        return
    classes = shape[-1]
    if y.ndim == len(shape) and y.shape[-1] == classes > 1:
        raise ValueError(
            f"Expected integer labels of shape {('n', *y.shape[1:-1])} for the "
            f"sparse loss {loss}. Received: y of shape {y.shape}, as of "
            "one-hot labels. Use `CategoricalCrossentropy`, or "
            "`y.argmax(-1)`."
        )
    ignored = getattr(loss, "ignore_class", None)
    counted = y if ignored is None else y[y != ignored]
    if not counted.size:
        return
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        wrong = int(((counted < 0) | (counted >= classes)).sum())
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}, the outputs of "
            f"the network. Received: labels from {low} to {high}, "
            f"{wrong} of them out of range. Where they are names of classes, "
            "pass them as strings, `y.astype(str)`."
        )
