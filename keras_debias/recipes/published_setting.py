import dataclasses
from typing import Any

import keras

from keras_debias.adapters.apply import apply
from keras_debias.recipes.budget import Budget
from keras_debias.recipes.recipe import Recipe
from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class PublishedSetting(ShortRepr):
    """What `kd.recipes.published` returns: how a paper trained a model.

    Attributes:
        paper, model, task: strings.
        recipe: `Recipe`, the paper's method.
        adapter: an adapter, or `None` for full fine-tuning.
        budget: `Budget`: epochs and batch size.
        updates: int, of the whole run.
        learning_rate: float, the peak.
        schedule: a Keras schedule of the learning rate.
        weight_decay: float.
        sequence_length: int, or `None` where the paper does not state it.
        metric: string, what the paper reports, for `kd.metrics.get`.
        reference: string, the section or table.

    Example:

    >>> setting = kd.recipes.published("beft", "bert_base", "rte", rows=320)
    >>> setting.task, setting.metric, setting.updates
    ('rte', 'accuracy', 600)
    """

    paper: str
    model: str
    task: str
    recipe: Recipe
    adapter: Any
    budget: Budget
    updates: int
    learning_rate: float
    schedule: Any
    weight_decay: float
    sequence_length: int | None
    metric: str
    reference: str

    def optimizer(self) -> keras.optimizers.Optimizer:
        """A new `AdamW` with the schedule and the weight decay."""
        return keras.optimizers.AdamW(
            self.schedule, weight_decay=self.weight_decay
        )

    def prepare(self, network, loss=None) -> keras.Model:
        """Applies the adapter to a network, in place, and compiles it.

        Args:
            network: a KerasHub task, or another built `keras.Model`.
            loss: a Keras loss. Defaults to `None`: cross entropy of integer
                labels and logits.

        Returns:
            The network, for `DebiasedModel` or as the result of `model_fn`.
        """
        if self.adapter is not None:
            apply(network, self.adapter)
        preprocessor = getattr(network, "preprocessor", None)
        if self.sequence_length is not None and preprocessor is not None:
            preprocessor.sequence_length = self.sequence_length
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(self.optimizer(), loss=loss)
        return network
