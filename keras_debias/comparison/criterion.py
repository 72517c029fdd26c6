class Criterion:
    """Base class of what chooses among weights, or among methods.

    A subclass overrides one method, `score`.
    """

    needs_groups = False

    def score(self, predictions, split) -> float:
        """How good a model is; the highest wins.

        Args:
            predictions: `pandas.DataFrame` of `kd.evaluate`, one line a row:
                `label, prediction, group`.
            split: the `kd.data.Split` that was predicted.

        Returns:
            Float.
        """
        return float((predictions["label"] == predictions["prediction"]).mean())

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}()"
