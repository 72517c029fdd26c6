"""`Feature`: a binary feature of inputs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_debias.auditing import image_measures
from keras_debias.auditing import text_measures
from keras_debias.auditing.fields import field_values
from keras_debias.auditing.group_attributes import group_attributes
from keras_debias.data.checks import is_text
from keras_debias.utils.progress import Progress

# The measure of a feature that is the value of a group attribute.
GROUP = "group"
# Rows that are tokenized at a time.
CHUNK = 2000

# How the measures that count occurrences are spelled where there is one.
PRESENT = {
    "exclamation marks": "has an exclamation mark",
    "final stop": "ends with a full stop",
    "negations": "has a negation",
    "numbers": "has a number",
    "question marks": "has a question mark",
    "contiguous": "stands in the first text word for word",
}


@dataclasses.dataclass(frozen=True)
class Feature:
    """A binary feature of one field of an example. Immutable.

    A token is present or not. The value of a group attribute is that of the
    row or not. Any other feature is a measure of the field (its words, the
    share of them in the other text, a hue ...) that lies from `low` to
    `high`.

    Args:
        field: string, the name of the field for reading.
        measure: string: `"token"`, `"group"`, or one of those in
            `text_measures.py` and `image_measures.py`.
        column: int or string. Which part of `split.x` the field is; ignored
            where `x` is one array. For the measure `"group"`, the attribute.
            Defaults to `0`.
        token: string, for the measures `"token"` and `"group"`. Defaults to
            `None`.
        low: float, the least value that counts. Defaults to `None`: there is
            no least one.
        high: float, the greatest value that counts. Defaults to `None`.

    Example:

    >>> feature = Feature("text", "token", token="never")
    >>> feature.present(Split(["It never rains.", "It rains."])).tolist()
    [True, False]
    """

    field: str
    measure: str
    column: int | str = 0
    token: str | None = None
    low: float | None = None
    high: float | None = None

    def present(self, split) -> np.ndarray:
        """Which rows of a split have the feature.

        Args:
            split: `Split` with inputs of the kind that was audited.

        Returns:
            A bool array of shape `(n,)`.

        Raises:
            ValueError: If the split has no such field, or, where the feature
                is the value of a group attribute, no such attribute.
        """
        return presence([self], split)[:, 0]

    def within(self, measured: np.ndarray) -> np.ndarray:
        """Which measured values lie from `low` to `high`; NaN does not.

        Args:
            measured: float array.

        Returns:
            A bool array of the same shape.

        Example:

        >>> length = Feature("text", "words", high=3.0)
        >>> length.within(np.array([2.0, 5.0, np.nan])).tolist()
        [True, False, False]
        """
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return (measured >= low) & (measured <= high)

    def __str__(self) -> str:
        if self.measure == GROUP:
            return f"{self.field} is {self.token!r}"
        if self.measure == "token":
            return f"{self.field} has {self.token!r}"
        if self.measure in PRESENT:
            return f"{self.field} {PRESENT[self.measure]}"
        if self.measure.startswith("hue"):
            ends = [end for end in (self.low, self.high) if end is not None]
            middle = round(sum(ends) / len(ends))
            return f"{self.field}: {image_measures.HUES[middle]} {self.measure}"
        if self.measure == "overlap" and self.low == 1.0:
            return f"{self.field} has only words of the first text"
        if self.low is None:
            return f"{self.field}: {self.measure} <= {self.high:.3g}"
        return f"{self.field}: {self.measure} >= {self.low:.3g}"


def presence(features: Sequence[Feature], split) -> np.ndarray:
    """Which rows of a split have which features; texts are read once.

    Args:
        features: sequence of `Feature`.
        split: `Split` with inputs of the kind that was audited.

    Returns:
        A bool array of shape `(n, features)`.
    """
    present = np.zeros((len(split), len(features)), dtype=bool)
    texts, images = [], []
    for position, feature in enumerate(features):
        if feature.measure == GROUP:
            present[:, position] = _has_value(feature, split)
        elif is_text(field_values(split, feature.column)):
            texts.append((position, feature))
        else:
            images.append((position, feature))
    if images:
        measured = image_measures.measures(
            field_values(split, images[0][1].column)
        )
        for position, feature in images:
            present[:, position] = feature.within(measured[feature.measure])
    if not texts:
        return present
    columns = dict.fromkeys(feature.column for _, feature in texts)
    if any(feature.measure in text_measures.PAIR for _, feature in texts):
        columns[_first_column(split)] = None
    progress = Progress("Reading texts", len(split), "row")
    for start in range(0, len(split), CHUNK):
        rows = {
            column: text_measures.tokens(
                field_values(split, column)[start : start + CHUNK]
            )
            for column in columns
        }
        _mark(present[start : start + CHUNK], texts, rows, split)
        progress.add(min(CHUNK, len(split) - start))
    return present


def _mark(present, texts, rows, split):
    """Fills in a chunk of `presence` from its tokenized texts."""
    wanted = {column: {} for column in rows}
    for position, feature in texts:
        own = rows[feature.column]
        if feature.measure == "token":
            positions = wanted[feature.column].setdefault(feature.token, [])
            positions.append(position)
            continue
        if feature.measure in text_measures.PAIR:
            first = rows[_first_column(split)]
            values = text_measures.pair_measure(feature.measure, first, own)
        else:
            values = text_measures.single_measure(feature.measure, own)
        present[:, position] = feature.within(values)
    for column, tokens in wanted.items():
        for i, row in enumerate(rows[column] if tokens else ()):
            for token in tokens.keys() & set(row):
                present[i, tokens[token]] = True


def _has_value(feature, split):
    groups = group_attributes(split).get(feature.column)
    if groups is None:
        raise ValueError(
            "Expected a split whose groups have the attribute "
            f"{feature.column!r}. Received: {split}"
        )
    if feature.token not in groups.names:
        return np.zeros(len(split), dtype=bool)
    return groups.ids == groups.names.index(feature.token)


def _first_column(split):
    return next(iter(split.x)) if isinstance(split.x, dict) else 0
