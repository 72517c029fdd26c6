import keras
from keras import ops
from keras import tree

from keras_debias import _keras_internals
from keras_debias.losses.row_parts import joined
from keras_debias.losses.sample_losses import sample_losses


class Objective(keras.losses.Loss):
    """A loss with a function between its per-sample values and reduction.

    The reduction, the sample weights and the mask are those of the loss.
    With label smoothing `exp(-loss)` is not a probability: the function gets
    the loss of the hard labels. For binary cross entropy over several labels
    it gets the loss of each label, and the mean over labels follows.

    Args:
        loss: anything that `compile(loss=...)` takes for one output.
        function: function of the per-sample losses, a tensor of the shape of
            the targets, to a tensor of the same shape.
    """

    def __init__(self, loss, function):
        super().__init__(name="objective")
        self.loss = loss
        self.function = function
        self._base = None

    def _resolve(self, y_true, y_pred):
        base = _keras_internals.resolve_loss(self.loss, y_true, y_pred)
        self.reduction = base.reduction
        if getattr(self.function, "of_probabilities", False):
            check_probability(base)
        config = base.get_config()
        if config.get("label_smoothing"):
            base = type(base).from_config({**config, "label_smoothing": 0.0})
        self._base = base

    def __call__(self, y_true, y_pred, sample_weight=None):
        if self._base is None:
            self._resolve(y_true, y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        binary = (
            getattr(self._base, "fn", None) is keras.losses.binary_crossentropy
        )
        if binary and len(y_pred.shape) == len(y_true.shape):
            y_true, y_pred = y_true[..., None], y_pred[..., None]
            losses = self._base.call(y_true, y_pred)
            return ops.mean(self.function(losses), axis=-1)
        losses = joined(sample_losses(self._base, y_true, y_pred))
        return _masked_like(self.function(losses), losses)


# Of these `exp(-loss)` is a probability, that of what is true.
LIKELIHOODS = (
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)
# Keras' own losses of which it is not.
OTHERS = (
    *("MeanSquaredError", "MeanAbsoluteError", "MeanSquaredLogarithmicError"),
    *("MeanAbsolutePercentageError", "CosineSimilarity", "Huber", "LogCosh"),
    *("Hinge", "SquaredHinge", "CategoricalHinge", "Poisson"),
    *("Tversky", "Dice", "Circle", "CTC"),
)
FUNCTIONS = tuple(
    getattr(keras.losses, name)
    for name in (
        *("mean_squared_error", "mean_absolute_error", "huber", "log_cosh"),
        *("mean_absolute_percentage_error", "cosine_similarity", "poisson"),
        *("mean_squared_logarithmic_error", "hinge", "squared_hinge"),
        "categorical_hinge",
    )
)


def check_probability(loss) -> None:
    """Raises where `exp(-loss)` of a loss of Keras is not a probability.

    A loss of one's own is taken for a negative log-likelihood.

    Args:
        loss: what `compile(loss=...)` takes for one output, or `None`.
    """
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return  # Keras knows it where it knows the shapes, or says so.
    if isinstance(loss, LIKELIHOODS):
        return
    kind = type(loss).__name__
    own = type(loss).__module__.split(".")[0] != "keras"
    function = getattr(loss, "fn", loss)
    if function not in FUNCTIONS and (own or kind not in OTHERS):
        return
    name = getattr(loss, "name", None) or getattr(loss, "__name__", kind)
    raise ValueError(
        "Expected a cross entropy for an objective that weighs samples by "
        "the probability of their label, as the generalized cross entropy of "
        f"`EDGE` does. Received: {name!r}, of which exp(-loss) is no "
        "probability. For a regression use `TaskOnly()`, an objective such as "
        "`kd.losses.GroupDRO`, or `EDGE(bias_probabilities=...)`, whose "
        "weights are known beforehand."
    )


class RowLoss(Objective):
    """A loss with a `TaskObjective` between its values and reduction.

    Args:
        loss: anything that `compile(loss=...)` takes for one output.
        objective: a `TaskObjective`.
        groups, index: int tensors of the present batch, or `None`.
    """

    def __init__(self, loss, objective, groups, index):
        super().__init__(loss, objective)
        self.groups = groups
        self.index = index

    def _resolve(self, y_true, y_pred):
        base = _keras_internals.resolve_loss(self.loss, y_true, y_pred)
        self.reduction = base.reduction
        self._base = base

    def call(self, y_true, y_pred):
        found = []

        def losses(y_true, y_pred):
            found.append(self._base.call(y_true, y_pred))
            return found[-1]

        values = self.function.call(
            y_true, y_pred, losses, self.groups, self.index
        )
        return _masked_like(values, found[0]) if found else values


def _masked_like(values, losses):
    """Values with the mask of losses: `ignore_class` leaves rows out."""
    mask = _keras_internals.get_keras_mask(losses)
    if mask is not None and len(mask.shape) == len(values.shape):
        _keras_internals.set_keras_mask(values, mask)
    return values


def map_objective(loss, function):
    """The `loss` argument of `compile` with every loss as an `Objective`."""
    return tree.map_structure(
        lambda leaf: None if leaf is None else Objective(leaf, function), loss
    )
