from collections.abc import Sequence

import keras

from keras_debias.analysis.bias_term_measure import BiasTermMeasure
from keras_debias.analysis.bias_terms import chosen_names
from keras_debias.analysis.bias_terms import find_bias_terms
from keras_debias.analysis.projection_change import ProjectionChange
from keras_debias.analysis.rank_bias_terms import check_measure
from keras_debias.analysis.rank_bias_terms import measured
from keras_debias.utils.networks import network_of


class BiasTermTracking(keras.callbacks.Callback):
    """Logs after each epoch how much each kind of bias changed.

    The logs get `query_bias_change`, `key_bias_change`, `value_bias_change`
    and so on, totals over the layers, for the terms that train; with
    `FisherInformation` their names end in `_bias_fisher`. Later callbacks and
    `History` see them. Changes are measured from the starting values of the
    adapters; for biases that train without an adapter, from the start of this
    `fit`.

    Args:
        measure: `ProjectionChange()`, `MagnitudeChange()` or
            `FisherInformation(data)`, which takes a pass over its samples
            each time. Defaults to `None`, which means `ProjectionChange()`.
        terms: string, sequence of strings, or `None` for all that train. Which
            terms to log; see `keras_debias.analysis.rank_bias_terms`. Defaults
            to `None`.

    Raises:
        TypeError: If `measure` is not one of the above.
        ValueError: When training begins, if no bias term of the model trains
            or one of `terms` does not.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.AllBiases())
    history = classifier.fit(
        texts,
        labels,
        callbacks=[
            kd.callbacks.BiasTermTracking(terms=("query", "key", "value"))
        ],
    )
    history.history["value_bias_change"]
    ```
    """

    def __init__(
        self,
        measure: BiasTermMeasure | None = None,
        terms: str | Sequence[str] | None = None,
    ):
        super().__init__()
        measure = ProjectionChange() if measure is None else measure
        check_measure(measure)
        self.measure = measure
        self.terms = terms
        self._found, self._names, self._starts = [], [], None

    def on_train_begin(self, logs=None):
        found = [t for t in find_bias_terms(self.model) if t.trainable]
        if not found:
            raise ValueError(
                "Expected a model with bias terms that train. Received: "
                f"model={network_of(self.model).name!r}, where none does. "
                "Apply an adapter such as `AllBiases()`, or leave "
                "`BiasTermTracking` out."
            )
        self._names = chosen_names(found, self.terms, "bias terms that train")
        self._found = [t for t in found if t.name in self._names]
        self._starts = None
        if self.measure.is_change:
            self._starts = {
                t.key: t.start() if t.has_start else t.value()
                for t in self._found
            }

    def on_epoch_end(self, epoch, logs=None):
        ranking = measured(
            self.model,
            self.measure,
            self._found,
            self._starts,
            list(dict.fromkeys(term.row for term in self._found)),
            self._names,
        )
        if logs is not None:
            logs.update(
                {
                    f"{name}_bias_{self.measure.log_suffix}": total
                    for name, total in ranking.totals.items()
                }
            )
