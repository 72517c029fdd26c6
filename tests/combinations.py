"""Which combinations of two parameters run on which backend.

On torch all of them do. On the other backends one in `period` does, which are
others on each backend: what two parameters do together does not depend on the
backend, and every trace takes seconds there.
`KERAS_DEBIAS_ALL_COMBINATIONS=1` runs all of them.
"""

import os

import keras

VARIABLE = "KERAS_DEBIAS_ALL_COMBINATIONS"
OFFSETS = {"tensorflow": 0, "jax": 1}


def runs(i: int, j: int, backend: str, period: int = 3) -> bool:
    """Whether the combination of value `i` and value `j` runs.

    One in `period` does on tensorflow and jax.
    """
    if backend not in OFFSETS or os.environ.get(VARIABLE) == "1":
        return True
    return (i + j + OFFSETS[backend]) % period == 0


def part(values, period: int = 3) -> list:
    """The values of a single parameter to run on this backend.

    For what no backend takes part in, but for a few operations that all
    values share: one in `period` runs on tensorflow and jax.
    """
    backend = keras.config.backend()
    return [v for i, v in enumerate(values) if runs(i, 0, backend, period)]


def spread(first, second, period: int = 3) -> list[tuple]:
    """The pairs to run on this backend.

    Args:
        first: the values of one parameter.
        second: the values of the other; of one of the two `period` or more.
        period: one pair in so many runs on tensorflow and jax.
    """
    return [
        (a, b)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if runs(i, j, keras.config.backend(), period)
    ]
