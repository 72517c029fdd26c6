"""Checks of numbers that a caller passes."""

import math

import numpy as np

# What `keras.utils.set_random_seed` and NumPy's generators both take.
LARGEST_SEED = 2**32 - 1


def check_int(name: str, value, least: int, most: int | None = None) -> int:
    """Returns `value` as an int, or raises.

    Args:
        name: string, the argument's name.
        value: What the caller passed.
        least: int, the smallest value allowed.
        most: int, the largest value allowed, or None.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"Expected `{name}` to be an integer. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(
            f"Expected `{name}` to be {limits}. Received: {name}={value}"
        )
    return int(value)


def check_seed(value, name: str = "seed") -> int:
    """Returns a seed that NumPy and Keras both take, or raises."""
    return check_int(name, value, 0, LARGEST_SEED)


def check_batch_size(value, name: str = "batch_size") -> int | None:
    """Returns a batch size of at least 1, or None, or raises."""
    return None if value is None else check_int(name, value, 1)


def check_number(
    name: str,
    value,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> float:
    """Returns `value` as a finite float, or raises.

    Args:
        name: string, the argument's name.
        value: What the caller passed.
        least, most: floats, the range allowed.
        above, below: bools, whether the ends are left out.
    """
    if isinstance(value, bool) or not isinstance(
        value, (int, float, np.number)
    ):
        raise TypeError(
            f"Expected `{name}` to be a number. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )
    inside = (value > least if above else value >= least) and (
        value < most if below else value <= most
    )
    if not math.isfinite(value) or not inside:
        low = f"{'above' if above else 'at least'} {least:g}"
        high = f"{'below' if below else 'at most'} {most:g}"
        limits = [
            text
            for text, end in ((low, least), (high, most))
            if math.isfinite(end)
        ]
        raise ValueError(
            f"Expected `{name}` to be a finite number"
            + (f", {' and '.join(limits)}" if limits else "")
            + f". Received: {name}={value}"
        )
    return float(value)


def check_flag(name: str, value) -> bool:
    """Returns True or False, or raises."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"Expected `{name}` to be True or False. Received: {name}={value!r}"
        )
    return bool(value)


def check_text(name: str, value) -> str:
    """Returns a string that is not blank, or raises."""
    if not isinstance(value, str):
        raise TypeError(
            f"Expected `{name}` to be a string. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )
    if not value.strip():
        raise ValueError(
            f"Expected `{name}` not to be empty. Received: {name}={value!r}"
        )
    return value


def check_texts(name: str, value) -> list[str]:
    """Returns a list of strings, or raises; a single string is refused."""
    if isinstance(value, (str, bytes)) or not np.iterable(value):
        raise TypeError(
            f"Expected `{name}` to be a sequence of strings. Received: "
            f"{name}={value!r}. Pass a list, also for a single text."
        )
    texts = list(value)
    wrong = next((t for t in texts if not isinstance(t, str)), None)
    if wrong is not None:
        raise TypeError(
            f"Expected `{name}` to be a sequence of strings. Received: "
            f"{wrong!r} (of type {type(wrong).__name__}) among them"
        )
    return texts


def check_floats(name: str, value) -> np.ndarray:
    """Returns an array of float64 with at least one axis, or raises."""
    try:
        array = np.asarray(value)
        numbers = array.dtype.kind in "biuf"
    except ValueError:
        numbers = False
    if not numbers or array.ndim == 0:
        raise TypeError(
            f"Expected `{name}` to be an array of numbers. Received: {name} "
            f"of the type {type(value).__name__}: {str(value)[:60]}"
        )
    return array.astype("float64")


def check_pairs(prompts, answers, name: str) -> tuple[list, list]:
    """Returns prompts and answers as lists of equal length, or raises."""
    prompts, answers = (
        check_texts("prompts", prompts),
        check_texts(name, answers),
    )
    if len(prompts) != len(answers) or not prompts:
        raise ValueError(
            f"Expected as many {name} as prompts, and at least one. "
            f"Received: {len(prompts)} prompts, {len(answers)} {name}"
        )
    return prompts, answers
