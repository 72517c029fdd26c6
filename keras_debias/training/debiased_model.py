import inspect

import keras

from keras_debias.training.base_debiased_model import BaseDebiasedModel

if keras.config.backend() == "torch":
    from keras_debias.training.torch_debiased_model import (
        TorchDebiasedModel as BackendDebiasedModel,
    )
elif keras.config.backend() == "tensorflow":
    from keras_debias.training.tensorflow_debiased_model import (
        TensorFlowDebiasedModel as BackendDebiasedModel,
    )
elif keras.config.backend() == "jax":
    from keras_debias.training.jax_debiased_model import (
        JaxDebiasedModel as BackendDebiasedModel,
    )
else:
    raise ImportError(
        "Expected the Keras backend to be torch, tensorflow or jax. "
        f"Received: {keras.config.backend()!r}. Set KERAS_BACKEND before "
        "importing Keras."
    )


@keras.saving.register_keras_serializable(package="keras_debias")
class DebiasedModel(BackendDebiasedModel):
    """A Keras model whose `fit` uses more than the task's gradient.

    Wraps a network, and `fit`, `evaluate`, `predict`, `save` work as they do
    for the network itself: raw strings for KerasHub tasks, any Keras
    optimizer, loss, metric, callback and mixed-precision policy. Each step
    is one forward pass, a backward pass for each objective of the
    projections, the projections, and the optimizer. Regularizers of the
    outputs join the update after the projections; their teacher is the
    network itself with its adapters switched off.

    On torch, after `torch.distributed.init_process_group()`, `fit` trains in
    all processes as one would: `batch_size` is that of all of them together,
    arrays and Splits are divided among them, a dataset must yield each
    process its own batches, and all have the same weights and logs. On jax,
    set a `keras.distribution` before the network is made.

    Args:
        model: a built `keras.Model`: a KerasHub task, or a functional,
            sequential or subclassed model; with adapters or without.
        projection: a projection or a list of them, applied in order.
            Defaults to `None`: `TaskOnly()`, plain fine-tuning.
        regularizers: a regularizer or a list of them. Each one's value is in
            the logs under its name. Defaults to `None`: none.
        objective: a `losses.TaskObjective` that turns the losses of the rows
            into the task's loss, such as `losses.GroupDRO`. Other objectives
            of projections are computed from the losses as they are. Defaults
            to `None`: the compiled loss.
        seed: int. Seed of the order of the rows. Defaults to `None`: drawn at
            random, under `keras.utils.set_random_seed`.
        name: string. Name of the model. Defaults to `None`.

    Attributes:
        model: the network that is trained, as it was passed; save or serve
            it alone.
        projections: list; see `projection`.
        regularizers: list; see above.
        objective: see above.

    Raises:
        TypeError: If `model`, `projection`, `regularizers` or `objective` is
            of another type.
        ValueError: If the model is not built, two regularizers have one
            name, or one needs a teacher and there are no adapters to switch
            off.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
    model = kd.DebiasedModel(classifier, projection=kd.projections.EDGE())
    model.compile(keras.optimizers.AdamW(1e-3))
    model.fit(train, validation_data=dev, epochs=2)
    print(kd.evaluate(model, {"test": test}))
    ```

    Reference:
        EDGE (CCL 2025) for `projections.EDGE`; BA-LoRA for
        `regularizers.ba_lora`.
    """

    # Keras makes models by a `__new__` that hides the names of arguments.
    __signature__ = inspect.Signature(
        list(inspect.signature(BaseDebiasedModel.__init__).parameters.values())[
            1:
        ]
    )
