"""`Finding`: a feature that goes with a label more often than chance."""

import dataclasses

from keras_debias.auditing.feature import Feature


@dataclasses.dataclass(frozen=True)
class Finding:
    """One feature and the label that it hints at.

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
        """
        return split.with_label_groups(
            {str(self.feature): self.feature.present(split)}
        )

    def to_dict(self) -> dict:
        """The finding as JSON would hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Finding":
        """Makes a finding of what `to_dict` returns."""
        return cls(**{**values, "feature": Feature(**values["feature"])})
