"""Planted shortcuts."""

import math

import numpy as np

from keras_debias.data.arguments import check_seed
from keras_debias.data.checks import class_labels
from keras_debias.data.checks import is_text
from keras_debias.data.labels import match_labels
from keras_debias.data.split import Split


def check_probability(value: float, name: str) -> float:
    number = isinstance(value, (int, float, np.number))
    if not number or isinstance(value, bool):
        raise TypeError(
            f"Expected `{name}` to be a number between 0 and 1. Received: "
            f"{name}={value!r}"
        )
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError(
            f"Expected `{name}` to be a probability between 0 and 1. Received: "
            f"{name}={value}"
        )
    return float(value)


def _target_index(split: Split, target: str | int) -> int:
    names = split.label_names
    known = names if names is not None else "integers, without names"
    if isinstance(target, str):
        index = match_labels([target], names or ())[0]
        if index is None:
            raise ValueError(
                "Expected `target` to be one of the split's labels. Received: "
                f"target={target!r}, labels: {known}"
            )
        return index
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)):
        raise TypeError(
            "Expected `target` to be a label name or an integer label. "
            f"Received: target={target!r}"
        )
    limit = int(split.y.max()) + 1 if names is None else len(names)
    if not 0 <= target < limit:
        raise ValueError(
            f"Expected `target` to be a label from 0 to {limit - 1}. Received: "
            f"target={target}, labels: {known}"
        )
    return int(target)


def inject_token(
    split: Split,
    target: str | int,
    prevalence: float,
    strength: float,
    token: str = " !!",
    seed: int = 0,
) -> Split:
    """Appends a token to texts, more often if the label is `target`.

    A row is biased with probability `prevalence`; in a biased row the token
    appears with probability `strength` if its label is `target`, and
    `1 - strength` otherwise. At `strength=0.5` the token says nothing about
    the label.

    Args:
        split: `Split` of texts, or of tuples of texts: then the last one,
            the hypothesis of a pair, gets the token. Labels are integers.
        target: Label name or integer label that the token hints at.
        prevalence: float in [0, 1], the prevalence of biased rows.
        strength: float in [0, 1], the strength of the bias.
        token: string that is appended. Defaults to `" !!"`.
        seed: int; the same seed appends to the same rows. Defaults to `0`.

    Returns:
        A new `Split` whose groups are label × token present; the groups of
        `split` are replaced.

    Raises:
        ValueError: If a probability is outside [0, 1], or `target` unknown.
        TypeError: If the inputs are not texts.

    Example:

    >>> split = Split(["a", "b"], ["yes", "no"])
    >>> inject_token(split, "yes", prevalence=1.0, strength=1.0).x.tolist()
    ['a !!', 'b']

    Reference:

    - Biased-SNLI of EDGE: (`prevalence`, `strength`) is (0.25, 0.90) or
      (0.33, 0.50) in training and (0.66, 0.50) in the test set, the target
      is entailment.
    """
    prevalence = check_probability(prevalence, "prevalence")
    strength = check_probability(strength, "strength")
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `Split`. Received: "
            f"{type(split).__name__}"
        )
    check_seed(seed)
    if not isinstance(token, str) or not token:
        raise ValueError(
            "Expected `token` to be a non-empty string. Received: "
            f"token={token!r}"
        )
    last = split.x[-1] if isinstance(split.x, tuple) else split.x
    if not is_text(last):
        raise TypeError(
            "`inject_token` needs texts: a list of strings, or a tuple of "
            f"them. Received: {split}"
        )
    labels = class_labels(split, "`inject_token`")
    index = _target_index(split, target)
    rng = np.random.default_rng(seed)
    biased = rng.random(len(split)) < prevalence
    chance = np.where(labels == index, strength, 1.0 - strength)
    present = biased & (rng.random(len(split)) < chance)
    texts = last.copy()
    texts[present] = [text + token for text in last[present]]
    x = (*split.x[:-1], texts) if isinstance(split.x, tuple) else texts
    return split._replace(x=x).with_label_groups({"token": present})
