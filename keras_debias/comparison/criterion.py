import numpy as np


def row_weights(predictions) -> np.ndarray:
    """Returns the weights of the rows: ones where there are none."""
    if "weight" not in predictions or predictions["weight"].isna().any():
        return np.ones(len(predictions))
    return predictions["weight"].to_numpy(dtype="float64")


class Criterion:
    """Base class of what chooses among weights, or among methods.

    A subclass overrides one method, `score`.
    """

    needs_groups = False

    def score(self, predictions, split) -> float:
        """How good a model is; the highest wins.

        Args:
            predictions: `pandas.DataFrame` of `kd.evaluate`, one line a row:
                `label, prediction, group`, and `weight` where rows have
                weights.
            split: the `kd.data.Split` that was predicted.

        Returns:
            Float.
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
