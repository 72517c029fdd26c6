"""`Scores`: what `evaluate` found, to read, print, save and plot."""

import dataclasses
import json
import os
from collections.abc import Iterator
from collections.abc import Sequence

import pandas as pd

from keras_debias.evaluation import page
from keras_debias.evaluation import plot
from keras_debias.evaluation.metric_score import MetricScore
from keras_debias.evaluation.score_lines import frame_of
from keras_debias.evaluation.table import scores_table
from keras_debias.utils.files import atomic_write
from keras_debias.utils.files import write_text
from keras_debias.utils.short_repr import ShortRepr

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, repr=False)
class GroupScore(ShortRepr):
    """Accuracy of one group.

    Attributes:
        name: string.
        n: int, the number of rows.
        accuracy: float, or None if the group is empty.
        interval: tuple of two floats, the Clopper-Pearson interval. Defaults
            to `None`.

    Example:

    >>> group = GroupScore("place=sea", 20, accuracy=0.75, interval=(0.5, 0.9))
    >>> group.accuracy
    0.75
    """

    name: str
    n: int
    accuracy: float | None
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class SplitScore(ShortRepr):
    """What was measured on one split.

    Attributes:
        name: string.
        n: int, the number of rows.
        accuracy: float; for multi-label splits the share of rows with all
            labels right; None for a regression.
        weighted_f1: float, F1 averaged over classes by their frequency; None
            for a regression.
        groups: tuple of `GroupScore`. Defaults to `()`: the split has none.
        worst_group: string, the name of the group with the lowest accuracy.
            Defaults to `None`: there are no groups.
        worst_group_accuracy: float. Defaults to `None`.
        gap: float, `accuracy - worst_group_accuracy`. Defaults to `None`.
        train_weighted_accuracy: float, group accuracies averaged by the group
            shares of the training split. Defaults to `None`.
        accuracy_interval, worst_group_accuracy_interval, gap_interval:
            tuples of two floats; see `evaluation/intervals.py`. Default to
            `None`.
        weighted_f1_interval: tuple of two floats, the bootstrap interval.
            Defaults to `None`.
        kind: string, `"class"`, `"multi_label"`, `"regression"` or
            `"generation"`. Defaults to `"class"`.
        metrics: dict from name to `MetricScore`: those that were requested,
            else the default ones of a regression or of generated answers.
            Defaults to an empty one.
        notes: tuple of strings: how rows and groups were counted, and what is
            wrong with the model. Defaults to `()`.

    Example:

    >>> class Network:
    ...     def predict(self, x, **kwargs):
    ...         return np.eye(2)[[0, 0, 0, 1]]
    >>> x, groups = np.zeros((4, 3)), ["a", "b", "b", "a"]
    >>> test = Split(x, [0, 0, 1, 1], groups, name="test")
    >>> scores = kd.evaluate(
    ...     Network(), test, from_logits=False, min_group_size=1
    ... )
    >>> score = scores["test"]
    >>> score.accuracy, score.worst_group, score.gap
    (0.75, 'b', 0.25)
    """

    name: str
    n: int
    accuracy: float | None
    weighted_f1: float | None
    groups: tuple[GroupScore, ...] = ()
    worst_group: str | None = None
    worst_group_accuracy: float | None = None
    gap: float | None = None
    train_weighted_accuracy: float | None = None
    accuracy_interval: Interval | None = None
    worst_group_accuracy_interval: Interval | None = None
    gap_interval: Interval | None = None
    weighted_f1_interval: Interval | None = None
    kind: str = "class"
    metrics: dict[str, MetricScore] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _interval(value) -> Interval | None:
    return None if value is None else (float(value[0]), float(value[1]))


def _split_from_dict(values: dict) -> SplitScore:
    groups = tuple(
        GroupScore(**{**group, "interval": _interval(group["interval"])})
        for group in values["groups"]
    )
    intervals = {
        key: _interval(value)
        for key, value in values.items()
        if key.endswith("_interval")
    }
    made = {
        "groups": groups,
        "notes": tuple(values.get("notes", ())),
        "metrics": {
            name: MetricScore.from_dict(metric)
            for name, metric in values.get("metrics", {}).items()
        },
    }
    return SplitScore(**{**values, **made, **intervals})


class Scores:
    """The scores of one model on several splits, in order.

    `scores["hans"].accuracy` is a number, `print(scores)` a table.

    Args:
        splits: sequence of `SplitScore`.
        predictions: `pandas.DataFrame`. Defaults to `None`: they were not
            kept.
        confidence: float, that of the intervals. Defaults to `None`: there
            are none.

    Example:

    >>> scores = Scores([SplitScore("test", 4, accuracy=0.5, weighted_f1=0.5)])
    >>> scores["test"].accuracy
    0.5
    """

    def __init__(
        self,
        splits: Sequence[SplitScore],
        predictions: pd.DataFrame | None = None,
        confidence: float | None = None,
    ):
        self._splits = {split.name: split for split in splits}
        self._predictions = predictions
        self.confidence = confidence

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self._splits)

    def __getitem__(self, name: str) -> SplitScore:
        if name not in self._splits:
            raise KeyError(f"No split {name!r}; there are {self.names}.")
        return self._splits[name]

    def __contains__(self, name: str) -> bool:
        return name in self._splits

    def __iter__(self) -> Iterator[SplitScore]:
        return iter(self._splits.values())

    def __len__(self) -> int:
        return len(self._splits)

    def __str__(self) -> str:
        return scores_table(self)

    def __repr__(self) -> str:
        inside = ", ".join(map(_headline, self))
        return f"Scores({inside})"

    @property
    def predictions(self) -> pd.DataFrame:
        """One line a row: `split, row, label, prediction, group`.

        A row of several groups has their names separated by `|`. Where a
        split has weights there is a column `weight`.
        """
        if self._predictions is None:
            raise ValueError(
                "These scores were read from a file that holds no "
                "predictions. Save them with `scores.save_predictions(path)` "
                "where they are made."
            )
        return self._predictions

    def save_predictions(self, path: str | os.PathLike) -> None:
        """Writes the predictions, compressed.

        Args:
            path: path that ends in `.csv.gz` or `.parquet`.

        Raises:
            ValueError: If it ends otherwise, or there are no predictions.
        """
        name = os.fspath(path)
        if not name.endswith((".csv.gz", ".parquet")):
            raise ValueError(
                "Expected `path` to end in '.csv.gz' or '.parquet'. Received: "
                f"path={name!r}"
            )
        predictions = self.predictions
        with atomic_write(path) as temporary:
            if name.endswith(".parquet"):
                predictions.to_parquet(temporary, index=False)
            else:
                predictions.to_csv(temporary, index=False, compression="gzip")

    def to_frame(self) -> pd.DataFrame:
        """Returns all scores as one line a split, metric and part.

        Columns: `split`, `metric`, `part`, `value`, `low` and `high` (the
        interval) and `n`. The part is `"all rows"`, `"worst group"`, `"gap"`,
        `"ratio"`, or `"group"`, whose name is in the column `group`. Undefined
        values are NaN.

        Returns:
            A `pandas.DataFrame`.

        Example:

        >>> scores = Scores([SplitScore("test", 4, 0.5, 0.4)])
        >>> scores.to_frame()["value"].tolist()
        [0.5, 0.4]
        """
        return frame_of(self)

    def to_dict(self) -> dict:
        """Returns the scores, without predictions, as JSON would hold them."""
        splits = [dataclasses.asdict(split) for split in self]
        return {"confidence": self.confidence, "splits": splits}

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes the scores, without predictions, to a JSON file."""
        write_text(
            path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        )

    @classmethod
    def from_dict(cls, values: dict) -> "Scores":
        """Makes `Scores` of what `to_dict` returns.

        Args:
            values: dict.

        Returns:
            `Scores`, without predictions.

        Raises:
            ValueError: If `values` are something else.
        """
        try:
            return cls(
                [_split_from_dict(split) for split in values["splits"]],
                confidence=values["confidence"],
            )
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                "Expected what `Scores.to_dict` returns. Received something "
                f"else: {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "Scores":
        """Reads scores that `to_json` wrote.

        Args:
            path: path of the file.

        Returns:
            `Scores`, without predictions.

        Raises:
            ValueError: If the file holds something else.
        """
        with open(path, encoding="utf-8") as file:
            try:
                return cls.from_dict(json.load(file))
            except ValueError as error:
                raise ValueError(
                    f"Expected a file that `Scores.to_json` wrote. Received: "
                    f"{os.fspath(path)!r}: {error}"
                ) from error

    def to_html(
        self, path: str | os.PathLike, title: str = "Evaluation"
    ) -> None:
        """Writes one HTML page that needs no other file.

        Args:
            path: path of the file.
            title: string, the heading. Defaults to `"Evaluation"`.
        """
        content = page.page(self, title)
        write_text(path, content)

    def _repr_html_(self) -> str:
        return page.body(self)

    def plot(
        self,
        path: str | os.PathLike | None = None,
        metric: str | None = None,
    ):
        """Draws overall and worst-group accuracy, and every group.

        Needs matplotlib.

        Args:
            path: path of a picture to be written. Defaults to `None`: nothing
                is written.
            metric: string, the name of one of `metrics` to be drawn instead.
                Defaults to `None`: the accuracy, for a regression the first
                metric.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If no split has this metric.
        """
        known = list(dict.fromkeys(n for s in self for n in s.metrics))
        if metric is None and all(s.accuracy is None for s in self):
            metric = known[0] if known else None
        if metric is None:
            return plot.plot_scores(self, path)
        if metric not in known:
            raise ValueError(
                f"Expected `metric` to be one of {known}. Received: "
                f"metric={metric!r}. Ask for it with `kd.evaluate(..., "
                "metrics=[...])`."
            )
        return plot.plot_metric(self, metric, path)


def _headline(split) -> str:
    if split.accuracy is not None:
        return f"{split.name}: {split.accuracy:.3f}"
    named = next(iter(split.metrics.values()), None)
    if named is None or named.value is None:
        return f"{split.name}: -"
    return f"{split.name}: {named.name} {named.value:.3f}"
