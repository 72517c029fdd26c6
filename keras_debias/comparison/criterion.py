import numpy as np


def row_weights(predictions) -> np.ndarray:
    """Returns the weights of the rows: ones where there are none."""
    if "weight" not in predictions or predictions["weight"].isna().any():
        return np.ones(len(predictions))
    return predictions["weight"].to_numpy(dtype="float64")


class Criterion:
    """Base class of criteria that select weights or methods.

    A subclass overrides one method: `score`, or `judge` if predictions alone
    are not enough.

    Example:

    ```python
    class MeanOfClasses(kd.comparison.Criterion):
        def score(self, predictions, split):
            right = predictions["label"] == predictions["prediction"]
            return float(right.groupby(predictions["label"]).mean().mean())
    ```
    """

    @property
    def needs_groups(self) -> bool:
        """Whether the validation data must have groups."""
        return False

    @property
    def name(self) -> str:
        """Its name in tables and for `Comparison.choose`."""
        return type(self).__name__

    @property
    def metrics(self) -> dict:
        """The metrics that `judge` uses: dict from name to metric."""
        return {}

    def judge(self, scores, split) -> float:
        """The score of a model from all measured metrics; higher is better.

        Args:
            scores: `kd.evaluation.Scores` of one split, with `metrics`.
            split: the `kd.data.Split` that was predicted.

        Returns:
            A float; by default, the result of `score`.
        """
        return self.score(scores.predictions, split)

    def score(self, predictions, split) -> float:
        """The score of a model from its predictions; higher is better.

        Args:
            predictions: `pandas.DataFrame` of `kd.evaluate`, one line a row:
                `label, prediction, group`, and `weight` where rows have
                weights.
            split: the `kd.data.Split` that was predicted.

        Returns:
            A float; by default, the accuracy.
        """
        right = predictions["label"] == predictions["prediction"]
        return float(np.average(right, weights=row_weights(predictions)))

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}()"
