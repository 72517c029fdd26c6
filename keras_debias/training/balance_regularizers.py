"""Weights of regularizers from the sizes of their gradients."""

import copy
import warnings

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.data.split import Split
from keras_debias.projections.projection import Projection
from keras_debias.projections.task_only import TaskOnly
from keras_debias.training.debiased_model import DebiasedModel
from keras_debias.training.subspace_constraints import unconstrained
from keras_debias.utils.numbers import is_number

# Shorter gradients, as shares of the task's, are rounding: a compiled
# teacher and its student compute the same logits in two ways.
ROUNDING = 1e-4


class _Nothing(Projection):
    """Removes the task from the update; the rest is not projected."""

    def project(self, gradients, variables):
        return [ops.zeros_like(g) for g in gradients["task"]]


class _Recorder(keras.optimizers.Optimizer):
    """Records the gradients it is given, and changes no variable."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.recorded = [
            self.add_variable_from_reference(v, "recorded") for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = _keras_internals.variable_index(self, variable)
        self.assign(self.recorded[index], ops.cast(gradient, variable.dtype))

    def length(self) -> float:
        arrays = [ops.convert_to_numpy(v) for v in self.recorded]
        squares = [np.sum(np.square(a, dtype="float64")) for a in arrays]
        return float(np.sqrt(sum(squares)))


def balance_regularizers(
    model: DebiasedModel, batch, scale: float = 1.0
) -> dict[str, float]:
    """Weights that give all regularizers gradients of the task's length.

    The weight of a regularizer becomes `scale |G_task| / |G|`, with `G` the
    gradient of its value without a weight, over everything that trains.
    Their ratios are then fixed, and `scale` is the one number left to tune,
    by a coarse search such as 0.5, 1, 2 on held-out data. Nothing is changed:
    neither weights nor moving statistics nor seeds nor the regularizers.

    At the start a model equals its teacher, and the gradient of
    `Consistency` is zero but for rounding. Call it after some steps of
    training; a regularizer whose gradient is below 1e-4 of the task's keeps
    its weight, with a warning.

    Args:
        model: a compiled `DebiasedModel` with regularizers.
        batch: a `Split`, or `(x, y)` or `(x, y, sample_weight)` as for
            `train_on_batch`. All its rows make one batch.
        scale: float above 0. Defaults to `1.0`.

    Returns:
        A dict from the names of the regularizers to weights.

    Raises:
        ValueError: If there are no regularizers, the model is not compiled,
            `scale` is out of range, or a gradient is not finite.

    Example:

    ```python
    model.fit(train, steps_per_epoch=50)
    weights = kd.balance_regularizers(model, train.sample(64))
    regularizers = [
        kd.regularizers.Consistency(weights["consistency"]),
        kd.regularizers.Diversity(weights["diversity"]),
    ]
    ```

    Reference:
        BA-LoRA, appendix D.1, which asks for gradients "roughly
        commensurate with the task loss".
    """
    if not (is_number(scale) and scale > 0):
        raise ValueError(
            "Expected `scale` to be a number above 0. Received: "
            f"scale={scale!r}"
        )
    if not isinstance(model, DebiasedModel) or not model.regularizers:
        raise ValueError(
            "Expected a `DebiasedModel` with regularizers. Received: "
            f"{type(model).__name__} without any. Pass `regularizers=`."
        )
    if not model.compiled:
        raise ValueError(
            "Expected a compiled model: the weights are relative to its loss. "
            "Received: a model that is not compiled. Call `compile` first."
        )
    if isinstance(batch, Split):
        if None not in (model.label_names, batch.label_names):
            batch = batch.align_labels(model.label_names)
        batch = (batch.x, batch.y, batch.sample_weight)
    task = _length(model, None, batch)
    step = model.optimizer.iterations
    weights = {}
    for regularizer in model.regularizers:
        length = _length(model, regularizer, batch)
        if not np.isfinite(length + task):
            raise ValueError(
                "Expected finite gradients. Received: lengths "
                f"{task} of the task and {length} of '{regularizer.name}'"
            )
        if length > ROUNDING * task > 0:
            weights[regularizer.name] = scale * task / length
            continue
        weights[regularizer.name] = float(
            ops.convert_to_numpy(regularizer.weight_at(step))
        )
        warnings.warn(
            f"The regularizer '{regularizer.name}' keeps its weight, "
            f"{weights[regularizer.name]:.3g}: its gradient has the length "
            f"{length:.3g}, that of the task {task:.3g}. Where the model "
            "still equals its teacher, train some steps first.",
            stacklevel=2,
        )
    return weights


def _length(model, regularizer, batch) -> float:
    """The length of one gradient, through the step itself."""
    projection, regularizers = TaskOnly(), None
    if regularizer is not None:
        regularizer = copy.copy(regularizer)
        regularizer.weight = 1.0
        projection, regularizers = _Nothing(), [regularizer]
    with unconstrained(model.model):
        probe = DebiasedModel(model.model, projection, regularizers, seed=0)
        loss, loss_weights, _ = _keras_internals.compiled_loss_arguments(model)
        recorder = _Recorder(learning_rate=0.0, name="recorder")
        probe.compile(
            recorder,
            loss=loss,
            metrics=None,
            loss_weights=loss_weights,
            run_eagerly=model.run_eagerly,
        )
        state = [*probe.forward_state(), *probe.random_state()]
        before = [np.array(ops.convert_to_numpy(v)) for v in state]
        try:
            probe.train_on_batch(*batch)
        finally:
            for variable, value in zip(state, before):
                variable.assign(value)
    return recorder.length()
