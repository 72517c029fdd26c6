import dataclasses

import pandas as pd

from keras_debias.auditing.examples import example_rows
from keras_debias.auditing.feature import Feature
from keras_debias.utils.short_repr import ShortRepr

COLUMNS = ("feature", "n", "mean_with", "mean_without", "correlation")
COLUMNS += ("z", "p_value", "adjusted_p_value")


@dataclasses.dataclass(frozen=True, repr=False)
class TargetFinding(ShortRepr):
    """One feature that goes with the target of a regression.

    Args:
        feature: `Feature`.
        n: int, the number of rows with the feature.
        mean_with: float, the mean of the target over these rows.
        mean_without: float, the mean over all others.
        correlation: float from -1 to 1, the rank correlation of the presence
            of the feature and the target (Spearman's).
        z: float, the correlation in units of its standard deviation where
            the two are independent.
        p_value: float, of both sides, by the normal approximation.
        adjusted_p_value: float, after Benjamini and Hochberg, over all
            features that were tested.

    Example:

    >>> texts = ["it never works"] * 30 + ["it always works"] * 30
    >>> report = kd.audit(Split(texts, [0.25] * 30 + [0.75] * 30))
    >>> finding = report.findings[0]
    >>> str(finding.feature), finding.mean_with, finding.mean_without
    ("text has 'always'", 0.75, 0.25)
    """

    feature: Feature
    n: int
    mean_with: float
    mean_without: float
    correlation: float
    z: float
    p_value: float
    adjusted_p_value: float

    def with_groups(self, split):
        """Groups a split by the presence of the feature.

        Args:
            split: `Split`: the one audited, or another of its kind.

        Returns:
            A `Split` for `kd.evaluate` and for methods that need groups.
        """
        return split.with_groups(
            {str(self.feature): self.feature.present(split)}
        )

    def examples(self, split, n: int = 5, seed: int = 0) -> pd.DataFrame:
        """Shows rows with the feature, for and against the finding.

        Args:
            split: `Split`: the one audited, or another of its kind.
            n: int, how many rows of either kind at most. Defaults to `5`.
            seed: int, of the draw. Defaults to `0`.

        Returns:
            `pandas.DataFrame` with the columns `example` ("for" where the
            target lies on the finding's side of the mean, else "against"),
            `row`, `label` and, for texts, one column for each text.

        Raises:
            ValueError: If the split lacks the field, or has no numbers as
                labels.
        """
        y = split.y
        if y is None or y.dtype.kind != "f" or y.size != len(split):
            raise ValueError(
                "Expected a split with one number a row as labels. Received: "
                f"{split}"
            )
        present = self.feature.present(split)
        above = y.reshape(-1) > y.mean()
        agrees = above if self.correlation > 0 else ~above
        kinds = {"for": present & agrees, "against": present & ~agrees}
        return example_rows(split, kinds, n, seed)

    def to_record(self) -> dict:
        """The finding as one line of a table."""
        record = {name: getattr(self, name) for name in COLUMNS}
        return {**record, "feature": str(self.feature)}

    @classmethod
    def from_dict(cls, values: dict) -> "TargetFinding":
        """Restores a finding from `dataclasses.asdict`."""
        return cls(**{**values, "feature": Feature(**values["feature"])})
