import keras

from keras_debias.comparison.criterion import Criterion
from keras_debias.data.arguments import check_flag
from keras_debias.metrics.get import get
from keras_debias.metrics.metric import Metric


@keras.saving.register_keras_serializable(package="keras_debias")
class MetricCriterion(Criterion):
    """Any metric on validation data, of all rows or of the worst group.

    Where lower is better, the criterion is minus the metric.

    Args:
        metric: a name that `kd.metrics.get` knows, or what it takes.
        worst_group: bool. Whether the worst group counts instead of all
            rows. Defaults to `False`.
        positive: string, for metrics of one class: its name. Defaults to
            `None`: the second of two classes.

    Raises:
        ValueError: If the metric is unknown; in `judge`, if it is undefined
            on the validation data.

    Example:

    ```python
    comparison = kd.compare(
        ...,
        validation=dev,
        selection=kd.comparison.MetricCriterion("auroc", worst_group=True),
    )
    comparison.choose("worst_group_auroc")
    ```
    """

    def __init__(
        self,
        metric: str | Metric,
        worst_group: bool = False,
        positive: str | None = None,
    ):
        self.metric = get(metric, positive=positive)
        self.positive = positive
        self.worst_group = check_flag("worst_group", worst_group)

    @property
    def needs_groups(self) -> bool:
        return self.worst_group

    @property
    def name(self) -> str:
        prefix = "worst_group_" if self.worst_group else ""
        return prefix + self.metric.name

    @property
    def metrics(self) -> dict:
        return {self.metric.name: self.metric}

    def judge(self, scores, split):
        (of_split,) = scores
        found = of_split.metrics[self.metric.name]
        value = found.worst if self.worst_group else found.value
        if value is None:
            raise ValueError(
                f"Expected validation data on which {self.name!r} is defined. "
                f"Received: {len(split)} rows on which it is not. Use more "
                "validation data, or another criterion."
            )
        return value if self.metric.higher_is_better else -value

    def score(self, predictions, split):
        raise ValueError(
            f"Expected scores for {self!r}, which looks at more than "
            "predictions. Received: predictions. Use `judge(kd.evaluate(model,"
            " {...}, metrics=criterion.metrics), split)`."
        )

    def get_config(self):
        # A function cannot be serialized; its name identifies it.
        return {
            "metric": self.metric.name,
            "worst_group": self.worst_group,
            "positive": self.positive,
        }

    def __repr__(self):
        return (
            f"MetricCriterion({self.metric.name!r}, "
            f"worst_group={self.worst_group})"
        )
