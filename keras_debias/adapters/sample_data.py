"""Rows of data as batches for the network, for adapters that ask for some."""

import keras
import numpy as np
from keras import ops


class SampleBatches(keras.utils.PyDataset):
    """Batches of what `apply` was given as `data`, preprocessed.

    Args:
        model: the network, which may be a KerasHub task that takes text.
        data: a `Split`, inputs, or a tuple of inputs, labels and, if any,
            sample weights.
        batch_size: int.
        needs_labels: bool.
    """

    def __init__(self, model, data, batch_size, needs_labels):
        super().__init__()
        x, y, weights = _parts(model, data)
        is_done = isinstance(x, dict) and "token_ids" in x
        if getattr(model, "preprocessor", None) is not None and not is_done:
            packed = model.preprocess_samples(x, y, weights)
            x, y, weights = keras.utils.unpack_x_y_sample_weight(packed)
        if needs_labels and y is None:
            raise ValueError(
                "Expected `data` with labels: the adapter starts from a "
                f"gradient. Received: {type(data).__name__} without. Pass a "
                "`Split`, or a tuple `(x, y)`."
            )
        self._parts = tuple(
            keras.tree.map_structure(_array, part)
            for part in (x, y, weights)
            if part is not None
        )
        lengths = {len(leaf) for leaf in keras.tree.flatten(self._parts)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                "Expected `data` of some rows, as many labels as inputs. "
                f"Received: lengths {sorted(lengths)}"
            )
        self._rows = lengths.pop()
        self._batch_size = batch_size

    def __len__(self):
        return -(-self._rows // self._batch_size)

    def __getitem__(self, index):
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return keras.tree.map_structure(lambda leaf: leaf[rows], self._parts)


def _parts(model, data) -> tuple:
    # A `Split`, which adapters do not know.
    if hasattr(data, "align_labels"):
        names = getattr(model, "label_names", None)
        if None not in (names, data.label_names):
            data = data.align_labels(names)
        return data.x, data.y, data.sample_weight
    if isinstance(data, tuple):
        return keras.utils.unpack_x_y_sample_weight(data)
    return data, None, None


def _array(value) -> np.ndarray:
    if ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    array = np.asarray(value)
    return array.astype("float32") if array.dtype == "float64" else array
