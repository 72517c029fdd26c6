"""Compiled losses and metrics, and what a `fit` keeps."""

import keras
from keras.src.trainers.compile_utils import CompileLoss


def drop_compiled_functions(model: keras.Model) -> None:
    """Makes a model trace its step functions anew at the next call.

    The attributes are public, but not every model has all of them.
    """
    for name in ("train", "test", "predict", "generate"):
        if hasattr(model, f"{name}_function"):
            setattr(model, f"{name}_function", None)


def require_compiled(model: keras.Model, method: str) -> None:
    """Raises as Keras does unless `compile` was called.

    `_assert_compile_called`: for a `fit` that prepares its data first.
    """
    model._assert_compile_called(method)


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Makes the `fit` that runs begin at a later epoch; `None`: where it asks.

    `_initial_epoch`: what Keras' own `BackupAndRestore` sets. It outlives the
    `fit`.
    """
    model._initial_epoch = epoch


def compile_loss(loss, loss_weights, output_names) -> keras.losses.Loss:
    """A compiled loss as `Model.compile` makes it.

    `CompileLoss`: the public API offers no way to evaluate a nested `loss`
    argument (several outputs, weights, names) outside `compile`.
    """
    return CompileLoss(loss, loss_weights, output_names=output_names)


def compiled_loss_arguments(model: keras.Model) -> tuple:
    """`(loss, loss_weights, output_names)` as given to `compile`.

    `_compile_loss`: `get_compile_config` gives a serialized copy only, and
    output names are kept nowhere else.
    """
    compiled = model._compile_loss
    if compiled is None:
        return None, None, None
    return (
        compiled._user_loss,
        compiled._user_loss_weights,
        compiled.output_names,
    )


def resolve_loss(loss, y_true, y_pred) -> keras.losses.Loss:
    """A loss object for what `compile(loss=...)` was given.

    `get_loss`: Keras picks among cross entropies by the shapes when given
    the name `"crossentropy"`; functions become loss objects.
    """
    from keras.src.trainers.compile_utils import get_loss

    return get_loss(loss, y_true, y_pred)


def build_loss(model: keras.Model, y, y_pred) -> None:
    """Builds the compiled loss of a model that computes its own.

    `_compile_loss`: Keras runs the model symbolically in every call of
    `train_on_batch` until its loss is built.
    """
    if not model._compile_loss.built:
        model._compile_loss.build(y, y_pred)


def compiled_metrics(model: keras.Model, y, y_pred) -> list:
    """The metrics given to `compile`, as objects with their variables.

    `_compile_metrics`: `model.metrics` has them in one, which makes them at
    the first batch.
    """
    compiled = model._compile_metrics
    if compiled is None:
        return []
    if not compiled.built:
        compiled.build(y, y_pred)
    return list(compiled.metrics)


def own_metrics(model: keras.Model) -> list[keras.Metric]:
    """The first of `model.metrics`: all but those of its layers.

    `_get_own_metrics`: `model.metrics` asks every layer.
    """
    return model._get_own_metrics()


def loss_options(loss: keras.losses.Loss) -> dict:
    """The arguments that a loss hands to its function.

    `_fn_kwargs`: not all of them are in `get_config()`.
    """
    return loss._fn_kwargs


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """The metric behind the logged `loss` of a compiled model.

    `_loss_tracker`: a custom step must update it, or the log says 0.
    """
    return model._loss_tracker


def training_loss(model: keras.Model, x, y, y_pred, sample_weight):
    """The total loss of a training step, as `Model.train_step` computes it.

    `_compute_loss`: supports overrides of `compute_loss` with and without
    the `training` argument.
    """
    return model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
    )


def additional_loss(model: keras.Model, loss):
    """One of `model.losses`, as `Model.compute_loss` adds it.

    `_aggregate_additional_loss`: backends scale it for distribution.
    """
    return model._aggregate_additional_loss(loss)
