import json
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_debias import adapters
from keras_debias.adapters.apply import adapted_layers
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import variable_paths
from keras_debias.adapters.store import CONFIG_NAME
from keras_debias.analysis.kernel_updates import kernels
from keras_debias.analysis.latent_factors import latent_factors
from keras_debias.directions import Directions
from keras_debias.projections import Subspace
from keras_debias.recipes.grasp_result import GraspResult
from keras_debias.training import DebiasedModel
from keras_debias.utils.layer_roles import READERS
from keras_debias.utils.layer_roles import WRITERS
from keras_debias.utils.networks import network_of


def grasp(
    model: keras.Model,
    adapter,
    x=None,
    y=None,
    *,
    optimizer,
    loss,
    metrics=None,
    k: int = 1,
    side: str = "read",
    scope: str = "shared",
    readers=READERS,
    writers=WRITERS,
    directions: Directions | None = None,
    naive: str | os.PathLike | None = None,
    also_train=None,
    projection=None,
    regularizers=None,
    seed: int = 0,
    **fit_arguments,
) -> GraspResult:
    """GRASP: fine-tunes again without the directions that were relied on.

    1. Fine-tune plainly, with the adapter.
    2. Read the leading directions from its weights (`latent_factors`).
    3. Restart from the pretrained weights and the same head, and fine-tune
       with the same settings and order of rows, and every update kept
       orthogonal to the directions (`projections.Subspace`).

    The input still has the factor, and the pretrained model still uses it. But
    fine-tuning cannot add to this use.

    `recipes.GRASP` does the same within the budget of a `kd.compare`, and can
    repeat it.

    Args:
        model: a built `keras.Model` without adapters. It is changed in
            place.
        adapter: an adapter of kernels or a list of adapters; `None` for full
            fine-tuning.
        x: what `DebiasedModel.fit` takes, such as a `Split`. Defaults to
            `None`.
        y: labels, where `x` is an array. Defaults to `None`.
        optimizer: `keras.optimizers.Optimizer`. Each stage gets a fresh one
            of its configuration.
        loss: Keras loss.
        metrics: list of Keras metrics. Defaults to `None`.
        k: int. How many directions. Defaults to `1`.
        side: as for `latent_factors`. Defaults to `"read"`.
        scope: as for `latent_factors`. Defaults to `"shared"`.
        readers: names or globs of layers that read the residual stream.
            A head that trains and reads it itself, not through a pooler,
            belongs here, or the shortcut is learned there. Defaults to those
            of KerasHub's models.
        writers: names or globs of layers that write. Defaults to those of
            KerasHub's models.
        directions: `Directions` to use instead of those found; the first
            stage is not run. Defaults to `None`.
        naive: path. Folder of the adapter of the first stage. If it exists, it
            is read and the first stage is not run; otherwise it is written.
            Defaults to `None`.
        also_train: as for `adapters.apply`. Defaults to `None`.
        projection: a projection or a list of them, for both stages, before
            the `Subspace`. Defaults to `None`.
        regularizers: as for `DebiasedModel`, for both stages. Defaults to
            `None`.
        seed: int. Seed of the order of the rows. Defaults to `0`.
        **fit_arguments: `batch_size`, `epochs`, `validation_data`,
            `callbacks` and the like, for both stages.

    Returns:
        A `GraspResult`.

    Raises:
        ValueError: If the model has adapters already, `naive` is given for
            full fine-tuning, or what `latent_factors` and `Subspace` raise.

    Example:

    ```python
    result = kd.grasp(
        classifier,
        kd.adapters.LoRA(rank=8),
        train,
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        k=1,
        epochs=2,
    )
    print(result.spectrum)
    print(kd.evaluate(result.model, {"test": test}))
    ```

    Reference:
        GRASP ([Gilligan-Lee et al., 2026](https://arxiv.org/abs/2605.27676)).
        The paper states: identification from the weights of a naive LoRA
        fine-tune, and a second fine-tune by projected gradients that cannot
        gain reliance on the factor and keeps what the pretrained model has. We
        know its abstract only. How the directions are read, which layers
        count, and the constraint after the optimizer's update are our reading.
    """
    require_model(model)
    model = network_of(model)
    if adapted_layers(model):
        raise ValueError(
            "Expected a model without adapters. Received: "
            f"model={model.name!r}, which has some. Pass them as `adapter`; "
            "an adapter that is saved already goes into `naive`."
        )
    if adapter is None and naive is not None:
        raise ValueError(
            "Expected an `adapter`, for its folder. Received: adapter=None, "
            f"naive={str(naive)!r}"
        )
    optimizer = keras.optimizers.serialize(keras.optimizers.get(optimizer))
    plain = (
        list(projection)
        if isinstance(projection, (list, tuple))
        else [*([] if projection is None else [projection])]
    )
    choice: dict[str, Any] = {"k": k, "side": side, "scope": scope}
    choice |= {"readers": readers, "writers": writers}
    spectrum: Any = None
    naive_history = None
    saved = naive is not None and pathlib.Path(naive).exists()
    if directions is None and saved:
        spectrum = _spectrum_of_folder(model, naive, choice)
    if adapter is not None:
        adapters.apply(model, adapter, also_train=also_train)

    def fit(projections):
        debiased = DebiasedModel(
            model, projections or None, regularizers, seed=seed
        )
        debiased.compile(
            keras.optimizers.deserialize(optimizer), loss=loss, metrics=metrics
        )
        return debiased, debiased.fit(x, y, **fit_arguments)

    if directions is None and not saved:
        base = kernels(model) if adapter is None else None
        start = _values(model)
        _, naive_history = fit(plain)
        spectrum = latent_factors(model, base=base, **choice)
        if naive is not None:
            adapters.save(model, naive)
        for variable, value in start:
            variable.assign(value)
    if directions is None:
        directions = spectrum.directions
        if not spectrum.detected:
            warnings.warn(
                "No direction of the first stage stands out from random "
                f"adapters (share {spectrum.spectrum[0]:.3f}, below "
                f"{spectrum.threshold:.3f}); the second "
                "stage is kept from directions that may mean nothing.",
                stacklevel=2,
            )
    debiased, history = fit([*plain, Subspace(directions)])
    return GraspResult(debiased, directions, spectrum, naive_history, history)


def _values(model) -> list[tuple]:
    """`(variable, value)` of all that training changes, as copies."""
    weights = {id(v) for v in model.weights}
    moving = {id(v) for v in model.non_trainable_weights}
    return [
        (v, np.array(ops.convert_to_numpy(v)))
        for v in model.variables
        if v.trainable
        # Random states, and the small state of layers, such as means.
        or id(v) not in weights
        or (id(v) in moving and len(v.shape) < 2)
    ]


def _spectrum_of_folder(model, folder, choice):
    """The spectrum of a saved adapter; the model is then as it was."""
    path = pathlib.Path(folder) / CONFIG_NAME
    if not path.is_file():
        raise ValueError(
            f"Expected `naive` to be an adapter folder. Received: {folder}, "
            f"which has no {CONFIG_NAME}."
        )
    config = json.loads(path.read_text())
    names = variable_paths(model)
    layers = layer_paths(model)
    touched = [names[p] for p in config["rest"] if p in names]
    for group in config["adapters"]:
        for layer in group["layers"]:
            touched += layers[layer].weights if layer in layers else []
    before = [(v, np.array(ops.convert_to_numpy(v))) for v in touched]
    trainable = [(v, v.trainable) for v in model.weights]
    adapters.load(model, folder)
    try:
        return latent_factors(model, **choice)
    finally:
        adapters.merge(model)
        for variable, value in before:
            variable.assign(value)
        for variable, flag in trainable:
            variable.trainable = flag
