"""Checks of numbers that callers give."""

import math
import numbers


def is_number(value) -> bool:
    """Whether a value is a finite number: no string, `None`, bool or array."""
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def require_flags(**values) -> None:
    """Raises unless every value is `True` or `False`."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(
                f"Expected `{name}` to be True or False. Received: "
                f"{name}={value!r}"
            )
