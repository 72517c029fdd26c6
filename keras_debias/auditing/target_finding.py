import dataclasses

from keras_debias.auditing.feature import Feature

COLUMNS = ("feature", "n", "mean_with", "mean_without", "correlation")
COLUMNS += ("z", "p_value", "adjusted_p_value")


@dataclasses.dataclass(frozen=True)
class TargetFinding:
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

    def to_record(self) -> dict:
        """The finding as one line of a table."""
        record = {name: getattr(self, name) for name in COLUMNS}
        return {**record, "feature": str(self.feature)}

    @classmethod
    def from_dict(cls, values: dict) -> "TargetFinding":
        """Restores a finding from `dataclasses.asdict`."""
        return cls(**{**values, "feature": Feature(**values["feature"])})
