import abc
import dataclasses
from typing import Any
from typing import cast

import keras


class Recipe(abc.ABC):
    """Base class of all methods: from training data to a trained model.

    A subclass is a frozen dataclass, its fields are the settings, and it
    overrides one method, `fit`. The `Trainer` makes networks, counts updates,
    and knows the seed.

    Example:

    ```python
    @dataclasses.dataclass(frozen=True)
    class HalfData(kd.recipes.Recipe):
        share: float = 0.5

        def fit(self, trainer, train):
            part, _ = train.partition(self.share, seed=trainer.seed)
            return trainer.fit(part)
    ```
    """

    @property
    def needs_groups(self) -> bool:
        """Whether the training data must have groups."""
        return False

    @abc.abstractmethod
    def fit(self, trainer, train):
        """Trains and returns the model.

        Args:
            trainer: `Trainer` of this run.
            train: `kd.data.Split` with labels.

        Returns:
            A model with `predict`, usually a `DebiasedModel`.
        """

    def get_config(self) -> dict:
        return {
            field.name: keras.saving.serialize_keras_object(
                getattr(self, field.name)
            )
            for field in dataclasses.fields(cast(Any, self))
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                for name, value in config.items()
            }
        )
