import dataclasses

from keras_debias.utils.short_repr import ShortRepr

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, repr=False)
class MetricScore(ShortRepr):
    """One metric on one split: of all rows, and of each group.

    Attributes:
        name: string.
        higher_is_better: bool, the direction.
        value: float, of all rows; None where it is undefined.
        interval: tuple of two floats. Defaults to `None`.
        groups: dict from group to value; None where it is undefined, as a
            recall without a row of the class. Defaults to an empty one.
        group_intervals: dict from group to interval or None. Defaults to an
            empty one.
        worst_group: string, the group with the worst value. Defaults to
            `None`.
        worst: float, its value. Defaults to `None`.
        gap: float, by how much the worst group is worse than all rows.
            Defaults to `None`.
        ratio: float, the worst value over that of all rows, or the inverse
            where lower is better: 1 where they are alike, less where a group
            is worse. Defaults to `None`, as where values are not positive.
        worst_interval, gap_interval, ratio_interval: tuples of two floats.
            Default to `None`.

    Example:

    >>> score = MetricScore(
    ...     "auroc", True, 0.9, groups={"a": 0.95, "b": 0.8}, worst_group="b"
    ... )
    >>> score.groups[score.worst_group]
    0.8
    """

    name: str
    higher_is_better: bool
    value: float | None
    interval: Interval | None = None
    groups: dict[str, float | None] = dataclasses.field(default_factory=dict)
    group_intervals: dict[str, Interval | None] = dataclasses.field(
        default_factory=dict
    )
    worst_group: str | None = None
    worst: float | None = None
    gap: float | None = None
    ratio: float | None = None
    worst_interval: Interval | None = None
    gap_interval: Interval | None = None
    ratio_interval: Interval | None = None

    @classmethod
    def from_dict(cls, values: dict) -> "MetricScore":
        """Makes a score of what `dataclasses.asdict` returns.

        Args:
            values: dict.

        Returns:
            A `MetricScore`.
        """
        ends = {
            key: None if value is None else tuple(map(float, value))
            for key, value in values.items()
            if key == "interval" or key.endswith("_interval")
        }
        of_groups = {
            name: None if value is None else tuple(map(float, value))
            for name, value in values["group_intervals"].items()
        }
        return cls(**{**values, **ends, "group_intervals": of_groups})
