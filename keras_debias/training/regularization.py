"""The regularizers of a model within its step: masks, teachers, weights."""

import functools

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.merge import disabled_values
from keras_debias.adapters.merge import layers_to_disable
from keras_debias.data.batches import FEATURES
from keras_debias.layers.low_rank import without_low_rank
from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.training.inputs import network_inputs
from keras_debias.training.teacher_features import cached_features
from keras_debias.training.teacher_features import split_before_trained

_PADDING_MASKS = ("padding_mask", "decoder_padding_mask")
_CROSS_ENTROPIES = (
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
)


class Regularization:
    """The regularizers of a `DebiasedModel`, ready for its step.

    Args:
        regularizers: a regularizer or a list of them, or `None`.
        network: the network.

    Attributes:
        members: list of regularizers.
        trackers: a `keras.metrics.Mean` for each.
    """

    def __init__(self, regularizers, network):
        if regularizers is None:
            regularizers = []
        elif not isinstance(regularizers, (list, tuple)):
            regularizers = [regularizers]
        if not all(isinstance(r, Regularizer) for r in regularizers):
            raise TypeError(
                "Expected `regularizers` to be a list of regularizers such "
                f"as `Diversity()`. Received: regularizers={regularizers!r}"
            )
        regularizers = [term for r in regularizers for term in r.terms]
        names = [r.name for r in regularizers]
        if len(set(names)) < len(names) or "loss" in names:
            raise ValueError(
                "Expected regularizers of different names, none of them "
                f"'loss': the logs go by them. Received: {names}. Pass "
                "`name=`."
            )
        self.network = network
        self.head = None
        self.members = list(regularizers)
        self.trackers = [keras.metrics.Mean(name=name) for name in names]
        self.check_teachers()

    # Before training.

    def check_teachers(self) -> None:
        """Raises if a regularizer needs a teacher and there is none."""
        for regularizer in self.members:
            if (
                regularizer.needs_teacher
                and regularizer.teacher is None
                and not disabled_values(adapted_layers(self.network).values())
            ):
                raise ValueError(
                    f"Expected a teacher for '{regularizer.name}': a model "
                    "with adapters, which is its own with them switched off, "
                    "or `teacher=`. Received: "
                    f"model={self.network.name!r} without adapters and "
                    "teacher=None. Call `adapters.apply` first, or pass a "
                    "`keras.Model`."
                )

    def check_logits(self, loss) -> None:
        """Raises if the compiled loss takes probabilities."""
        for each in keras.tree.flatten(loss) if self.members else ():
            name = getattr(each, "__name__", each)
            from_logits = name not in _CROSS_ENTROPIES
            if isinstance(each, keras.losses.Loss):
                from_logits = each.get_config().get("from_logits", True)
            if not from_logits:
                raise ValueError(
                    "Expected a network that returns logits, as regularizers "
                    "are functions of them, and a loss to match. Received: "
                    f"loss={each!r}, which takes probabilities. Take the "
                    "softmax out of the network and compile with "
                    "`from_logits=True`."
                )

    def warn_if_idle(self, rows: int) -> None:
        """Warns of terms that cannot act on batches of so many rows."""
        try:
            shape = self.network.output_shape
        except AttributeError:
            return
        if isinstance(shape, tuple) and len(shape) in (2, 3):
            for regularizer in self.members:
                regularizer.warn_if_idle((rows, *shape[1:]))

    def prepare_cache(self, batches) -> None:
        """Adds the teacher's features to the batches, if there is a cache."""
        caches = [r.cache for r in self.members]
        caches = [c for c in caches if c is not None]
        if not caches:
            return
        if batches is None:
            raise ValueError(
                "Expected rows with `cache=`, arrays or a `Split`: the "
                "batches of a dataset do not say which rows they hold. "
                "Received: a dataset. Leave `cache` out."
            )
        encoder, self.head = split_before_trained(self.network)
        batches.features = cached_features(
            self.network, encoder, caches[0], batches
        )

    # In the step.

    def teacher_outputs(self, inputs, mapping=(), run=None) -> dict:
        """The logits of each teacher, by `id`: one forward pass each.

        Runs in a stateless scope, with other values for some variables, and
        writes to none of them. The head has its current weights.

        Args:
            inputs: the inputs of the step.
            mapping: `(variable, value)` pairs, the present values where they
                are not in the variables.
            run: function of `(network, function, inputs)` that returns
                `function(inputs, mapping)`, for instance compiled. Defaults
                to `None`: a plain call.
        """
        by_teacher = {}
        features = None
        if network_inputs(inputs) is not inputs:
            features = inputs.get(FEATURES)
            inputs = network_inputs(inputs)
        for regularizer in self.members:
            if not regularizer.needs_teacher:
                continue
            teacher = regularizer.teacher
            if id(teacher) in by_teacher:
                continue
            if teacher is None and features is not None:
                with keras.StatelessScope(mapping):
                    outputs = self.head(features, training=False)
            else:
                network = self.network if teacher is None else teacher
                function = functools.partial(self._as_teacher, network)
                outputs = (
                    function(inputs, mapping)
                    if run is None
                    else run(network, function, inputs)
                )
            by_teacher[id(teacher)] = keras.tree.map_structure(
                ops.stop_gradient, outputs
            )
        return by_teacher

    def _as_teacher(self, network, inputs, mapping):
        own = network is self.network
        layers = layers_to_disable(network) if own else []
        changes = [*mapping, *disabled_values(layers)]
        with keras.StatelessScope(changes), without_low_rank(layers):
            return network(inputs, training=False)

    def mask(self, x, y_pred, sample_weight):
        """Which rows of the outputs count, for `values`."""
        if not self.members:
            return None
        if not ops.is_tensor(y_pred):
            count = len(keras.tree.flatten(y_pred))
            raise ValueError(
                "Expected a network with one output, logits: regularizers "
                f"cannot tell which one is meant. Received: {count} outputs"
            )
        return row_mask(network_inputs(x), y_pred, sample_weight)

    def values(self, y, y_pred, mask, teachers) -> list:
        """The values of all regularizers, before their weights."""
        values = []
        for regularizer in self.members:
            teacher = None
            if regularizer.needs_teacher:
                teacher = teachers[id(regularizer.teacher)]
            values.append(regularizer.call(y, y_pred, teacher, mask))
        return values

    def penalty(self, values, step):
        """The weighted sum of the values, or `None` if there are none."""
        if not values:
            return None
        return sum(
            ops.cast(regularizer.weight_at(step), value.dtype) * value
            for regularizer, value in zip(self.members, values)
        )

    def track(self, values, rows) -> None:
        """Updates the logged values."""
        for tracker, value in zip(self.trackers, values):
            tracker.update_state(value, sample_weight=rows)


def row_mask(inputs, y_pred, sample_weight):
    """Which rows of the outputs count: a bool tensor, or `None` for all.

    A row counts if its sample weight is not zero. Without weights of tokens
    the padding mask of the inputs, or the mask that the network returns,
    says which tokens count.
    """
    rank = len(y_pred.shape)
    mask = None
    if sample_weight is not None:
        mask = ops.not_equal(sample_weight, 0)
        of_tokens = len(mask.shape) == 2 and mask.shape[1] != 1
        if rank == 3 and of_tokens:
            return mask
        mask = mask if of_tokens else ops.reshape(mask, (-1,))
    if rank == 2:
        return mask
    padding = None
    if isinstance(inputs, dict):
        for name in _PADDING_MASKS:
            candidate = inputs.get(name)
            if candidate is not None and candidate.shape[1] == y_pred.shape[1]:
                padding = ops.cast(candidate, "bool")
    if padding is None:
        padding = _keras_internals.get_keras_mask(y_pred)
    if mask is None:
        return padding
    of_samples = ops.reshape(mask, (-1, 1))
    if padding is None:
        padding = ops.ones_like(y_pred[..., 0], dtype="bool")
    return ops.logical_and(padding, of_samples)
