"""Checks of numbers that callers give."""

import math
import numbers


def is_number(value) -> bool:
    """Whether a value is a finite number: no string, `None`, bool or array."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    # An integer beyond all floats.
    except OverflowError:
        return False


def require_count(value, name: str, least: int = 1) -> None:
    """Raises unless a value is an integer of at least `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        kind = (
            "a positive integer"
            if least == 1
            else f"an integer of at least {least}"
        )
        raise ValueError(
            f"Expected `{name}` to be {kind}. Received: {name}={value!r}"
        )


def require_seed(value) -> None:
    """Raises unless a seed is an integer that every generator takes."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 0 <= value < 2**31:
        raise ValueError(
            "Expected `seed` to be an integer from 0 to 2**31 - 1. "
            f"Received: seed={value!r}"
        )


def require_flags(**values) -> None:
    """Raises unless every value is `True` or `False`."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(
                f"Expected `{name}` to be True or False. Received: "
                f"{name}={value!r}"
            )
