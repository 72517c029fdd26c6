"""`ErrorSlice`: rows of a class on which a model errs more often."""

import dataclasses

import pandas as pd

from keras_debias.auditing.examples import example_rows
from keras_debias.auditing.examples import has_label
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.predictions import predicted_labels
from keras_debias.utils.short_repr import ShortRepr

COLUMNS = ("feature", "label", "n", "errors", "error_rate_with")
COLUMNS += ("error_rate_without", "excess_errors", "odds_ratio")
COLUMNS += ("phi", "z", "p_value", "adjusted_p_value")


@dataclasses.dataclass(frozen=True, repr=False)
class ErrorSlice(ShortRepr):
    """The rows of one class that have a feature on which a model fails.

    Args:
        feature: `Feature`.
        label: string, the name of the class. For multi-hot labels the rows
            with a label, or, as "not ...", the rows without it.
        n: int, the number of rows of the class with the feature.
        errors: int, how many of them are predicted wrongly.
        error_rate_with: float, `errors / n`.
        error_rate_without: float, the share of errors among the rows of the
            class without the feature.
        z: float, standardized distance of `errors` from its expectation.
        p_value: float, of the one-sided exact test of Fisher in the class.
        adjusted_p_value: float, after Benjamini and Hochberg, over all
            features and classes that were tested.
        odds_ratio: float, with half a row added to each cell.
        phi: float from -1 to 1, the correlation of feature and error within
            the class.

    Example:

    >>> texts = ["it never works"] * 20 + ["it works"] * 40
    >>> labels = ["yes"] * 40 + ["no"] * 20
    >>> says = ["no"] * 20 + labels[20:]
    >>> report = kd.audit(
    ...     Split(texts, labels), target="errors", predictions=says
    ... )
    >>> found = report.findings[0]
    >>> found.label, found.errors, found.n, found.error_rate_without
    ('yes', 20, 20, 0.0)
    """

    feature: Feature
    label: str
    n: int
    errors: int
    error_rate_with: float
    error_rate_without: float
    z: float
    p_value: float
    adjusted_p_value: float
    odds_ratio: float
    phi: float

    @property
    def excess_errors(self) -> float:
        """Errors beyond the rate of the rows without the feature."""
        return self.errors - self.n * self.error_rate_without

    def with_groups(self, split):
        """Groups a split by label and the presence of the feature.

        Args:
            split: `Split`: the one audited, or another of its kind.

        Returns:
            A `Split` with the groups label x feature, for `kd.evaluate` and
            for methods that need groups.

        Raises:
            ValueError: If the split lacks the field, or has no class labels.
        """
        return split.with_label_groups(
            {str(self.feature): self.feature.present(split)}
        )

    def examples(
        self, split, predictions, n: int = 5, seed: int = 0
    ) -> pd.DataFrame:
        """Shows rows of the slice: predicted wrongly, and correctly.

        Args:
            split: `Split` with one class a row.
            predictions: see `audit`.
            n: int, how many rows of either kind at most. Defaults to `5`.
            seed: int, of the draw. Defaults to `0`.

        Returns:
            `pandas.DataFrame` with the columns `example` ("wrong" or
            "right"), `row`, `label` and, for texts, one column for each
            text.

        Raises:
            ValueError: If the split lacks the field or the label, or the
                predictions do not fit it.
        """
        wrong = predicted_labels(split, predictions) != split.y
        if wrong.ndim == 2:
            raise ValueError(
                "Expected a split with one class for each row. Received: "
                f"multi-hot labels of shape {split.y.shape}"
            )
        rows = self.feature.present(split) & has_label(split, self.label)
        kinds = {"wrong": rows & wrong, "right": rows & ~wrong}
        return example_rows(split, kinds, n, seed)

    def to_record(self) -> dict:
        """The slice as one line of a table."""
        record = {"feature": str(self.feature)}
        return record | {name: getattr(self, name) for name in COLUMNS[1:]}

    def to_dict(self) -> dict:
        """The slice as a dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ErrorSlice":
        """Restores a slice from `to_dict`."""
        return cls(**{**values, "feature": Feature(**values["feature"])})
