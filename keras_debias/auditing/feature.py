"""`Feature`: something that an input has or has not."""

import dataclasses

import numpy as np

from keras_debias.auditing import image_measures
from keras_debias.auditing import text_measures
from keras_debias.auditing.fields import field_values

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
    """A yes-or-no property of one field of a row: a value.

    A token is present or not. Any other feature is a measure of the field
    (its words, the share of them in the other text, a hue ...) that lies
    from `low` to `high`.

    Args:
        field: string, the name of the field for reading.
        measure: string: `"token"`, or one of those in `text_measures.py`
            and `image_measures.py`.
        column: int or string. Which part of `split.x` the field is; ignored
            where `x` is one array.
        token: string, for the measure `"token"`.
        low: float or `None`, the least value that counts.
        high: float or `None`, the greatest value that counts.

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
            Boolean array of shape `(n,)`.

        Raises:
            ValueError: If the split has no such field.
        """
        values = field_values(split, self.column)
        if self.measure == "token":
            tokens = text_measures.tokens(values)
            return np.array([self.token in row for row in tokens], dtype=bool)
        if self.measure in text_measures.PAIR:
            first = field_values(split, _first_column(split))
            measured = text_measures.pair_measure(
                self.measure,
                text_measures.tokens(first),
                text_measures.tokens(values),
            )
        elif self.measure in text_measures.SINGLE:
            measured = text_measures.single_measure(
                self.measure, text_measures.tokens(values)
            )
        else:
            measured = image_measures.measures(values)[self.measure]
        return self.within(measured)

    def within(self, measured: np.ndarray) -> np.ndarray:
        """Which measured values lie from `low` to `high`; NaN does not."""
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return (measured >= low) & (measured <= high)

    def __str__(self) -> str:
        if self.measure == "token":
            return f"{self.field} has {self.token!r}"
        if self.measure in PRESENT:
            return f"{self.field} {PRESENT[self.measure]}"
        if self.measure.startswith("hue"):
            middle = round((self.low + self.high) / 2)
            return f"{self.field}: {image_measures.HUES[middle]} {self.measure}"
        if self.measure == "overlap" and self.low == 1.0:
            return f"{self.field} has only words of the first text"
        if self.low is None:
            return f"{self.field}: {self.measure} <= {self.high:.3g}"
        return f"{self.field}: {self.measure} >= {self.low:.3g}"


def _first_column(split):
    return next(iter(split.x)) if isinstance(split.x, dict) else 0
