"""What objectives share: sums by group, tables by row, checks."""

import numpy as np
from keras import ops

from keras_debias.utils.numbers import is_number


def one_hot(ids, num_ids, dtype):
    """Rows of zeros with a one at each id, a tensor `(len(ids), num_ids)`.

    Not that of `keras.ops`, for which torch waits for the values of a device.
    """
    return ops.cast(
        ops.equal(ids[:, None], ops.arange(num_ids, dtype="int32")), dtype
    )


def group_sums(values, groups, num_groups):
    """The sum of `values` in each group, a tensor `(num_groups,)`."""
    is_member = one_hot(groups, num_groups, values.dtype)
    return ops.sum(is_member * values[:, None], axis=0)


def check_count(value, name, least):
    """Raises unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"Expected `{name}` to be an integer. Received: {name}={value!r}"
        )
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. "
            f"Received: {name}={value}"
        )


def check_positive(value, name):
    """Raises unless `value` is a finite number above zero."""
    if not (is_number(value) and value > 0):
        raise ValueError(
            f"Expected `{name}` to be a finite number above 0. "
            f"Received: {name}={value}"
        )


def check_table(values, name, ndim) -> np.ndarray:
    """Returns finite float32 values, one row of them a training row."""
    try:
        table = np.asarray(values, dtype="float32")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected `{name}` to be an array of numbers. Received: "
            f"{name}={values!r}"
        ) from error
    if table.ndim != ndim or not table.size:
        raise ValueError(
            f"Expected `{name}` of {ndim} dimensions, the first being the "
            f"rows of the training data. Received: shape {table.shape}"
        )
    if not np.isfinite(table).all():
        raise ValueError(
            f"Expected `{name}` to be finite. Received: NaN or infinity in "
            f"{int((~np.isfinite(table)).sum())} of {table.size} values"
        )
    return table


def check_probabilities(values, name) -> np.ndarray:
    """Returns float32 values that sum to one in each training row."""
    table = check_table(values, name, 2)
    sums = table.sum(-1)
    if (table < 0).any() or (abs(sums - 1) > 1e-3).any():
        raise ValueError(
            f"Expected `{name}` that sum to one in each row. Received: sums "
            f"from {sums.min():g} to {sums.max():g}, values from "
            f"{table.min():g}"
        )
    return table


def check_row_losses(values, objective) -> None:
    """Raises unless losses are one a row: others would broadcast."""
    if len(values.shape) != 1:
        name = type(objective).__name__
        raise ValueError(
            f"Expected one loss for each row with `{name}`. Received: "
            f"losses of shape {tuple(values.shape)}, as of the tokens of "
            "a language model, whose padding and prompts would count. "
            "Wrap the model in a `kd.models.LabelWordClassifier`, or choose "
            "rows instead, as `kd.recipes.BalancedSampling()` does."
        )


def table_weight(objective, name, table):
    """Keeps values of all training rows as a weight that does not train."""
    return objective.add_weight(
        name=name,
        shape=table.shape,
        initializer=lambda shape, dtype=None: ops.convert_to_tensor(
            table, dtype=dtype
        ),
        trainable=False,
    )
