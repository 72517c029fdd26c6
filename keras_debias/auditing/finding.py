"""`Finding`: a feature that goes with a label more often than chance."""

import dataclasses
from typing import Any

import pandas as pd

from keras_debias.auditing.examples import example_rows
from keras_debias.auditing.examples import has_label
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.harm import Harm
from keras_debias.utils.short_repr import ShortRepr

COLUMNS = ("feature", "label", "n", "prior", "share", "lift", "odds_ratio")
COLUMNS += ("phi", "z", "p_value", "adjusted_p_value")


@dataclasses.dataclass(frozen=True, repr=False)
class Finding(ShortRepr):
    """One feature and the label that it predicts.

    Args:
        feature: `Feature`.
        label: string, the name of the label.
        n: int, the number of rows with the feature.
        share: float, P(label | feature).
        prior: float, P(label).
        z: float, standardized distance of the count from its expectation
            under independence.
        p_value: float, of the one-sided exact test of Fisher.
        adjusted_p_value: float, after Benjamini and Hochberg, over all
            features and labels that were tested.
        odds_ratio: float, with half a row added to each cell.
        phi: float from -1 to 1, the correlation of feature and label
            (Cramer's V of the table of two by two, with its sign).
        harm: `Harm`, whether a model follows the feature where it misleads,
            Defaults to `None`: the audit was made without predictions.

    Example:

    >>> texts = ["it never works"] * 30 + ["it always works"] * 30
    >>> report = kd.audit(Split(texts, ["no"] * 30 + ["yes"] * 30), folds=0)
    >>> finding = report.findings[0]
    >>> str(finding.feature), finding.label, finding.share, finding.prior
    ("text has 'always'", 'yes', 1.0, 0.5)
    """

    feature: Feature
    label: str
    n: int
    share: float
    prior: float
    z: float
    p_value: float
    adjusted_p_value: float
    odds_ratio: float
    phi: float
    harm: Harm | None = None

    @property
    def lift(self) -> float:
        """P(label | feature) / P(label)."""
        return self.share / self.prior

    def with_groups(self, split):
        """Groups a split by label and the presence of the feature.

        Args:
            split: `Split`: the one audited, or another of its kind.

        Returns:
            A `Split` with the groups label x feature, for `kd.evaluate` and
            for methods that need groups.

        Raises:
            ValueError: If the split lacks the field, or has no class labels.

        Example:

        >>> texts = ["it never works"] * 30 + ["it always works"] * 30
        >>> train = Split(texts, ["no"] * 30 + ["yes"] * 30)
        >>> finding = kd.audit(train, folds=0).findings[0]
        >>> finding.with_groups(train).groups.names[0]
        "label=no, text has 'always'=no"
        """
        return split.with_label_groups(
            {str(self.feature): self.feature.present(split)}
        )

    def examples(self, split, n: int = 5, seed: int = 0) -> pd.DataFrame:
        """Shows rows with the feature: with the label, and with another.

        Args:
            split: `Split`: the one audited, or another of its kind.
            n: int, how many rows of either kind at most. Defaults to `5`.
            seed: int, of the draw. Defaults to `0`.

        Returns:
            `pandas.DataFrame` with the columns `example` ("for" or
            "against"), `row`, `label` and, for texts, one column for each
            text.

        Raises:
            ValueError: If the split lacks the field or the label.

        Example:

        ```python
        report = kd.audit(train)
        print(report.findings[0].examples(train).to_string())
        ```
        """
        present = self.feature.present(split)
        agrees = has_label(split, self.label)
        kinds = {"for": present & agrees, "against": present & ~agrees}
        return example_rows(split, kinds, n, seed)

    def to_record(self) -> dict:
        """The finding as one line of a table."""
        record: dict[str, Any] = {"feature": str(self.feature)}
        record |= {name: getattr(self, name) for name in COLUMNS[1:]}
        if self.harm is not None:
            record |= {
                "against": self.harm.n,
                "excess_errors": self.harm.excess_errors,
                "error_rate_with": self.harm.error_rate_with,
                "error_rate_without": self.harm.error_rate_without,
                "harm_adjusted_p_value": self.harm.adjusted_p_value,
                "harmful": self.harm.significant,
            }
        return record

    def to_dict(self) -> dict:
        """The finding as a dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Finding":
        """Restores a finding from `to_dict`."""
        harm = values.get("harm")
        return cls(
            **{
                **values,
                "feature": Feature(**values["feature"]),
                "harm": None if harm is None else Harm(**harm),
            }
        )
