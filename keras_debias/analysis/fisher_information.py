import math

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.bias_forms import VectorBias
from keras_debias.analysis.bias_term_measure import BiasTermMeasure
from keras_debias.analysis.bias_terms import BiasTerm
from keras_debias.data.batches import Batches
from keras_debias.data.batches import num_rows
from keras_debias.data.batches import take_rows
from keras_debias.data.batches import to_arrays
from keras_debias.data.split import Split
from keras_debias.layers.bias_update import bias_shape
from keras_debias.utils.gradients import recorded_gradients
from keras_debias.utils.networks import network_of
from keras_debias.utils.numbers import require_seed


class FisherInformation(BiasTermMeasure):
    """Mean squared gradient of the loss with respect to a bias.

    The diagonal of the empirical Fisher information: the gradient of the
    task's loss, one sample at a time and without dropout, squared, averaged
    over the samples and the entries of the bias. A term's total is the mean
    over the entries of all layers. Raw strings go through the task's
    preprocessor. Weights, trainable flags and how the model is compiled are
    the same afterwards.

    It says how strongly the loss responds to a term where the weights are
    now, not that the term changed or learned something: labels at random
    have Fisher information too.

    Args:
        data: a `Split`, or a tuple `(x, y)` or `(x, y, sample_weight)` of
            arrays or lists of strings, what `fit` would take.
        samples: int or `None`. So many rows, drawn at random without
            replacement. Defaults to `None`: all of them.
        loss: a `keras.losses.Loss` or its name, or `None` for the loss that
            the model is compiled with. Defaults to `None`.
        seed: int. Which rows are drawn. Defaults to `0`.

    Raises:
        TypeError: If `data` or `samples` is of another type.
        ValueError: If `samples` is not in the range of the rows; when used,
            if the model is not compiled and `loss` is `None`, a bias trains
            in another form than `VectorBias()`, or a gradient is not finite.

    Example:

    ```python
    ranking = kd.analysis.rank_bias_terms(
        classifier, kd.analysis.FisherInformation(train, samples=200)
    )
    ```

    Reference:
        BEFT, appendix A.2, takes the gradients before fine-tuning. Here they
        are those at the present weights: rank before `fit`, or, for biases
        that are not injected, inside `kd.adapters.disabled(model)`.
    """

    name = "Fisher information"
    log_suffix = "fisher"

    def __init__(self, data, samples=None, loss=None, seed=0):
        if isinstance(data, Split):
            parts = (data.x, data.y, data.sample_weight)
        elif isinstance(data, tuple) and 2 <= len(data) <= 3:
            parts = (*data, None)[:3]
        else:
            raise TypeError(
                "Expected `data` to be a `Split`, or a tuple `(x, y)` or "
                "`(x, y, sample_weight)`. Received: data of the type "
                f"`{type(data).__name__}`"
            )
        rows = num_rows(
            tuple(to_arrays(part) for part in parts if part is not None)
        )
        if samples is not None and (
            isinstance(samples, bool) or not isinstance(samples, int)
        ):
            raise TypeError(
                "Expected `samples` to be an integer or None. Received: "
                f"samples={samples!r}"
            )
        if samples is not None and not 1 <= samples <= rows:
            raise ValueError(
                f"Expected `samples` from 1 to {rows}, the rows of `data`. "
                f"Received: samples={samples}. Leave it out to take all rows."
            )
        require_seed(seed)
        self.data = data
        self.samples = rows if samples is None else samples
        self.loss = loss
        self.seed = seed
        self._rows = rows

    def __repr__(self):
        return f"FisherInformation(samples={self.samples}, seed={self.seed})"

    def get_config(self):
        raise TypeError(
            "Expected a measure that can be saved. Received: "
            "`FisherInformation`, which holds data and has no config. Make it "
            "anew where it is needed."
        )

    def total(self, values, sizes):
        return float(np.average(values, weights=sizes))

    def values(self, model, terms, before):
        weights = [_weights(term) for term in terms]
        squares = self._squares(model, [v for each in weights for v in each])
        result = []
        for term, each in zip(terms, weights, strict=True):
            parts = [_entries(term, squares[id(v)]) for v in each]
            mean = np.concatenate(parts).mean(dtype="float64")
            result.append(float(mean / self.samples))
        if not np.isfinite(result).all():
            bad = [t.path for t, v in zip(terms, result) if not np.isfinite(v)]
            raise ValueError(
                "Expected finite gradients of the loss. Received: NaN or "
                f"infinity for {len(bad)} of {len(terms)} biases, first "
                f"'{bad[0]}'. Check the inputs and labels of `data`."
            )
        return result

    def _batches(self, model, network):
        data = self.data
        if isinstance(data, Split):
            names = getattr(model, "label_names", None)
            if None not in (names, data.label_names):
                data = data.align_labels(names)
            data = (data.x, data.y, data.sample_weight)
        data = (*data, None)[:3]
        parts = [None if part is None else to_arrays(part) for part in data]
        if self.samples < self._rows:
            generator = np.random.default_rng(self.seed)
            rows = generator.permutation(self._rows)[: self.samples]
            parts = [None if p is None else take_rows(p, rows) for p in parts]
        has_preprocessor = getattr(network, "preprocessor", None) is not None
        return Batches(
            *parts,
            batch_size=1,
            preprocess=network.preprocess_samples if has_preprocessor else None,
        )

    def _loss(self, model, network):
        """`(loss, loss_weights)`: given, or as compiled."""
        if self.loss is not None:
            return self.loss, None
        for each in (model, network):
            if each.compiled:
                loss, weights, _ = _keras_internals.compiled_loss_arguments(
                    each
                )
                if loss is not None:
                    return loss, weights
        raise ValueError(
            "Expected a compiled model, whose loss has the gradients. "
            f"Received: model={model.name!r}, which has none. Compile it, or "
            "pass `FisherInformation(data, loss=...)`."
        )

    def _squares(self, model, variables) -> dict[int, np.ndarray]:
        """Sums of squared gradients over the samples, by variable's id."""
        network = network_of(model)
        loss, loss_weights = self._loss(model, network)
        batches = self._batches(model, network)
        if len(batches[0]) < 2:
            raise ValueError(
                "Expected `data` with labels: the loss needs them. Received: "
                f"{self.data!r} without any."
            )
        squares = recorded_gradients(
            network, batches, variables, loss, loss_weights, ops.square
        )
        return {
            id(v): square for v, square in zip(variables, squares, strict=True)
        }


def _weights(term: BiasTerm) -> list[keras.Variable]:
    """The weights whose gradient is that of the bias."""
    roles = term.update_roles()
    forms = [term.layer.bias_updates[role][0] for role in roles]
    if not all(type(form) is VectorBias for form in forms):
        raise ValueError(
            "Expected biases that train as vectors. Received: "
            f"'{term.path}' with {forms}. Merge the adapter with "
            "`adapters.merge`, or use `VectorBias()`."
        )
    # A vector is added to the layer's own bias: both have one gradient.
    return term.base_variables() or list(
        term.layer.bias_state(roles[0]).values()
    )


def _entries(term: BiasTerm, array: np.ndarray) -> np.ndarray:
    """The entries of a term in an array for one of its weights."""
    if term.qkv_slot is not None:
        whole = bias_shape(term.layer)
        if array.size == math.prod(whole):
            return term.part(array.reshape(whole))
    return array.reshape(-1)
