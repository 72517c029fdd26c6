"""`skew`: samples rows so that an attribute goes with the label."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_debias.data.bias_injection import check_probability
from keras_debias.data.checks import class_labels
from keras_debias.data.labels import match_labels
from keras_debias.data.sampling import check_size
from keras_debias.data.split import Split


def skew(
    split: Split,
    attribute: Mapping[str, Sequence] | Sequence | None = None,
    label: Mapping | None = None,
    strength: float = 0.95,
    n: int | None = None,
    seed: int = 0,
) -> Split:
    """Draws rows so that a real attribute goes with the label.

    Each label is paired with one value of the attribute. Of the rows of a
    label, the share `strength` has that value, and the rest is spread evenly
    over the other values. All labels get the same number of rows. Rows are
    left out, never changed, as in Waterbirds. At a `strength` of one over
    the number of values the attribute says nothing about the label.

    Args:
        split: `Split` with one integer label a row.
        attribute: dict with one entry, from the attribute's name to one
            value a row (strings, integers or booleans); or the values alone.
            Defaults to `None`: the groups of `split`, which must be named
            by label x one attribute, as `with_label_groups` makes them.
        label: dict from label (its name, or the integer) to the value of the
            attribute that goes with it. Defaults to `None`: the first label
            goes with the first value, and so on, in sorted order; then there
            must be as many values as labels.
        strength: float from 0 to 1. Defaults to `0.95`.
        n: int. Number of rows to draw. Defaults to `None`: as many as the
            smallest cell allows.
        seed: int; the same seed draws the same rows. Defaults to `0`.

    Returns:
        A `Split` of `n` rows in random order, with groups label x attribute.

    Raises:
        ValueError: If a label or value is unknown, or a cell of label x
            value has fewer rows than asked for: the error names the cell and
            the largest possible `n`.
        TypeError: If an argument is of another type.

    Example:

    >>> split = Split(list("abcdefgh"), [0, 0, 0, 0, 1, 1, 1, 1])
    >>> wet = [True, True, True, False, False, False, False, True]
    >>> skewed = skew(split, {"wet": wet}, {0: True, 1: False}, 0.75)
    >>> sorted(skewed.groups.counts().values())
    [1, 1, 3, 3]
    """
    if not isinstance(split, Split):
        raise TypeError(
            "Expected `split` to be a `Split`. Received: "
            f"split={type(split).__name__}"
        )
    labels = class_labels(split, "`skew`")
    strength = check_probability(strength, "strength")
    name, codes, values = _attribute(split, attribute)
    partner = _partners(split, labels, values, label)
    shares = _shares(partner, len(values), strength)
    sizes = np.array(
        [
            np.bincount(codes[labels == code], minlength=len(values))
            for code in partner
        ]
    )
    wanted = _counts(shares, n, sizes, len(split))
    short = np.argwhere(wanted > sizes)
    if len(short):
        row, column = short[0]
        largest = _largest(shares, sizes)
        raise ValueError(
            f"Expected at least {wanted[row, column]} rows with the label "
            f"{_spelled(split, list(partner)[row])!r} and {name}="
            f"{values[column]}. Received: {sizes[row, column]}. Lower `n` (at "
            f"most {largest} with strength={strength:g}), or change "
            "`strength`."
        )
    generator = np.random.default_rng(seed)
    chosen = []
    for row, code in enumerate(partner):
        for column in range(len(values)):
            cell = np.flatnonzero((labels == code) & (codes == column))
            chosen.append(generator.permutation(cell)[: wanted[row, column]])
    chosen = generator.permutation(np.concatenate(chosen))
    return split.take(chosen).with_label_groups(
        {name: pd.Categorical.from_codes(codes[chosen], values)}
    )


def _attribute(split, attribute):
    """Name, code of each row, and the values as strings."""
    if attribute is None:
        return _from_groups(split)
    name = "attribute"
    if isinstance(attribute, Mapping):
        if len(attribute) != 1:
            raise ValueError(
                "Expected `attribute` with one entry, from its name to its "
                f"values. Received: the entries {list(attribute)}. Combine "
                "several attributes into one value a row first."
            )
        ((name, attribute),) = attribute.items()
    if isinstance(attribute, str) or len(attribute) != len(split):
        raise ValueError(
            f"Expected `attribute` with one value for each of {len(split)} "
            f"rows. Received: {len(attribute)}"
        )
    groups = Split(split.x, groups={str(name): attribute}).groups
    prefix = f"{name}="
    values = [value.removeprefix(prefix) for value in groups.names]
    return str(name), groups.ids, values


def _from_groups(split):
    pairs = [] if split.groups is None else split.groups.names
    found = [pair.split(", ", 1) for pair in pairs]
    if not found or any(
        len(parts) != 2
        or not parts[0].startswith("label=")
        or "=" not in parts[1]
        for parts in found
    ):
        raise ValueError(
            "Expected `attribute=`, or a split with groups of label x one "
            f"attribute. Received: groups={list(pairs)}. Pass one value a row: "
            '`skew(split, {"domain": domains}, ...)`.'
        )
    names = {parts[1].split("=", 1)[0] for parts in found}
    if len(names) > 1 or any(", " in parts[1] for parts in found):
        raise ValueError(
            "Expected groups of label x one attribute. Received: groups="
            f"{list(pairs)}. Pass the attribute that is meant: "
            '`skew(split, {"domain": domains}, ...)`.'
        )
    values = list(dict.fromkeys(p[1].split("=", 1)[1] for p in found))
    values.sort()
    code_of = np.array([values.index(p[1].split("=", 1)[1]) for p in found])
    return names.pop(), code_of[split.groups.ids], values


def _partners(split, labels, values, label) -> dict[int, int]:
    """From each label that occurs to the value that goes with it."""
    there = np.unique(labels).tolist()
    if label is None:
        if len(there) != len(values):
            raise ValueError(
                "Expected `label=`, a dict from each label to the value that "
                f"goes with it, where numbers differ. Received: {len(there)} "
                f"labels and the values {values}"
            )
        return {code: column for column, code in enumerate(there)}
    if not isinstance(label, Mapping):
        raise TypeError(
            "Expected `label` to be a dict from label to a value of the "
            f"attribute. Received: label={label!r}"
        )
    partner = {}
    for key, value in label.items():
        code: Any = key
        if isinstance(key, str):
            code = match_labels([key], split.label_names or ())[0]
        if code not in there:
            raise ValueError(
                "Expected the keys of `label` to be labels of the split, "
                f"{[_spelled(split, c) for c in there]}. Received: {key!r}"
            )
        spelled = {True: "yes", False: "no"}.get(value, str(value))
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            spelled = str(value)
        if spelled not in values:
            raise ValueError(
                f"Expected the values of `label` to be of {values}. Received: "
                f"{value!r}"
            )
        partner[int(code)] = values.index(spelled)
    absent = [_spelled(split, code) for code in there if code not in partner]
    if absent:
        raise ValueError(
            "Expected a value of the attribute for every label. Received: "
            f"none for {absent}"
        )
    return dict(sorted(partner.items()))


def _spelled(split, code) -> str:
    return str(code) if split.label_names is None else split.label_names[code]


def _shares(partner, columns, strength) -> np.ndarray:
    """The share of each cell among all rows, `(labels, values)`."""
    if columns < 2:
        raise ValueError(
            "Expected an attribute with at least two values. Received: one"
        )
    shares = np.full((len(partner), columns), (1 - strength) / (columns - 1))
    shares[np.arange(len(partner)), list(partner.values())] = strength
    return shares / len(partner)


def _counts(shares, n, sizes, rows) -> np.ndarray:
    if n is None:
        n = _largest(shares, sizes)
    check_size(n, rows)
    return _rounded(shares, n)


def _largest(shares, sizes) -> int:
    asked = shares > 0
    n = int(np.floor((sizes[asked] / shares[asked]).min() + 1e-9))
    # Rounding may still ask one row too many of a cell.
    while n > 0 and (_rounded(shares, n) > sizes).any():
        n -= 1
    return n


def _rounded(shares, n) -> np.ndarray:
    exact = shares * n
    counts = np.floor(exact + 1e-9).astype(int)
    # Largest remainders, so that the total is right.
    order = np.argsort(-(exact - counts), axis=None, kind="stable")
    counts.ravel()[order[: n - counts.sum()]] += 1
    return counts
