"""Puts adapters on a model in place, and says what trains."""

import time

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import keep_statistics
from keras_debias.adapters.adapter import mark_moved
from keras_debias.adapters.checks import require_model
from keras_debias.adapters.copies import refuse_copies
from keras_debias.adapters.selection import Selector
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import select
from keras_debias.adapters.undo import unchanged_on_error
from keras_debias.layers.stand_alone import own_adapter
from keras_debias.utils.networks import network_of

# A progress bar is shown if preparing takes more seconds than this.
_PROGRESS_AFTER_SECONDS = 5.0


def adapted_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """The adapted layers of a model by path, in its order."""
    return {
        path: layer
        for path, layer in layer_paths(network_of(model)).items()
        if adapters_of(layer)
    }


def applied_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """Adapted layers whose adapter was applied, not created with the layer."""
    return {
        path: layer
        for path, layer in adapted_layers(model).items()
        if any(a is not own_adapter(layer) for a in adapters_of(layer))
    }


def own_adapters(model: keras.Model) -> list[keras.Variable]:
    """What trains in layers that were created with an adapter."""
    return [
        variable
        for layer in adapted_layers(model).values()
        if own_adapter(layer) is not None
        for variable in _keras_internals.own_trainable_variables(layer)
        if variable.trainable
    ]


def head_variables(model: keras.Model) -> list[keras.Variable]:
    """The weights of a task outside its backbone, `[]` without a backbone."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return []
    inside = {id(v) for v in backbone.weights}
    return [v for v in model.weights if id(v) not in inside]


def require_adapters(model: keras.Model, way_out: str) -> dict:
    """The adapted layers, or a `ValueError` when there are none."""
    require_model(model)
    layers = adapted_layers(model)
    if not layers:
        raise ValueError(
            "Expected a model with adapters. Received: "
            f"model={network_of(model).name!r}, which has none. {way_out}"
        )
    return layers


def set_trainable(model: keras.Model, chosen: list[keras.Variable]) -> None:
    """Makes exactly the chosen variables of a model train."""
    chosen_ids = {id(v) for v in chosen}
    for variable in model.weights:
        variable.trainable = id(variable) in chosen_ids


def mark_trained(model: keras.Model) -> None:
    """Notes which weights train, for `save` and for `changed_trainable`."""
    for layer in (model, *_keras_internals.flatten_layers(model)):
        own = _keras_internals.own_trainable_variables(layer)
        trained = tuple(sorted(v.name for v in own if v.trainable))
        if trained or adapters_of(layer):
            layer.trained_weights = trained
        mark_moved(layer, trained)


def note_training(model: keras.Model) -> None:
    """Records that the weights that train now differ from the base."""
    for layer in (model, *_keras_internals.flatten_layers(model)):
        own = _keras_internals.own_trainable_variables(layer)
        mark_moved(layer, [v.name for v in own if v.trainable])


def changed_trainable(model: keras.Model) -> list[str]:
    """Weights of adapted layers that were frozen or unfrozen since.

    Freezing or unfreezing a part of a model, as `body.trainable = False`
    does, reaches factors and frozen kernels alike.
    """
    changed = []
    for path, layer in adapted_layers(model).items():
        chosen = getattr(layer, "trained_weights", None)
        if chosen is None:
            continue
        for variable in _keras_internals.own_trainable_variables(layer):
            if variable.trainable and variable.name not in chosen:
                changed.append(f"{path}/{variable.name} trains")
            elif not variable.trainable and variable.name in chosen:
                changed.append(f"{path}/{variable.name} is frozen")
    return changed


def reset_training(model: keras.Model) -> None:
    """Drops compiled steps, and an optimizer over other variables."""
    _keras_internals.drop_compiled_functions(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        config = model.get_compile_config()
        arguments = keras.saving.deserialize_keras_object(config)
        # A KerasHub causal LM resets its sampler otherwise.
        if hasattr(model, "sampler"):
            arguments["sampler"] = model.sampler
        model.compile(**arguments)


def apply(
    model: keras.Model,
    adapter: Adapter | list[Adapter],
    also_train: Selector | None = None,
    verbose: int = 1,
    data=None,
) -> keras.Model:
    """Adds adapters to a built model in place and freezes the rest.

    Afterwards the adapters train, the head (the weights of a KerasHub task
    outside its backbone), and the layers named by `also_train`. If an argument
    is wrong, the model does not change.

    Args:
        model: a built `keras.Model`: a KerasHub task or backbone, or a
            functional, sequential or subclassed model.
        adapter: an adapter, or a list of adapters.
        also_train: name, glob, several of them, or a function of a layer that
            returns a bool. Layers that train as a whole. Required for a model
            without a `backbone`; pass `()` for none. Defaults to `None`.
        verbose: int. `1` shows a progress bar where preparing may take more
            than five seconds, such as the start of `PiSSA` on a large model;
            `0` is silent. Defaults to `1`.
        data: for adapters that start from data: a `Split`, inputs, or a tuple
            of inputs and labels, raw text included, for `CorDA` and `LoRAGA`;
            the model before it was quantized for `LoftQ`. Defaults to `None`.

    Returns:
        The model.

    Raises:
        ValueError: If a selector matches no layer, a layer already has such
            an adapter, a rank does not fit, the model has no head and
            `also_train` is missing, or `data` is missing or not needed.
        TypeError: If `adapter` is not an adapter.

    Example:

    ```python
    classifier = keras_hub.models.TextClassifier.from_preset(
        preset, num_classes=3
    )
    kd.adapters.apply(classifier, kd.adapters.LoRA(rank=8))
    ```
    """
    require_model(model)
    model = network_of(model)
    adapters = (
        list(adapter) if isinstance(adapter, (list, tuple)) else [adapter]
    )
    if not adapters or not all(isinstance(a, Adapter) for a in adapters):
        raise TypeError(
            "Expected `adapter` to be an adapter such as `LoRA(rank=8)`, or "
            f"a list of adapters. Received: adapter={adapter!r}"
        )
    if not model.built or not model.weights:
        raise ValueError(
            "Expected a built model. Received: "
            f"model={model.name!r}, which has no weights yet. Call it on a "
            "batch first."
        )

    # Check everything first.
    trainable = list(model.trainable_variables) if applied_layers(model) else []
    trainable += _trainable_rest(model, also_train, needed=not trainable)
    trainable += own_adapters(model)
    trainable_ids = {id(v) for v in trainable}
    adapters = [p for a in adapters for p in a.resolve(model, trainable_ids)]
    needing = [a for a in adapters if a.needs_data]
    if bool(needing) != (data is not None):
        raise ValueError(
            "Expected `data` for adapters that start from some, such as "
            "`CorDA`, and for no other ones. Received: "
            f"adapter={adapter!r} {'without' if needing else 'with'} `data`."
        )

    found = []
    taken: dict[tuple, str] = {}
    for each in adapters:
        for path, layer in each.find(model, trainable_ids).items():
            for claim in each.exclusive_parts(layer):
                key = (id(layer), claim)
                if key in taken:
                    raise ValueError(
                        "Expected at most one adapter for the same weights. "
                        f"Received: {taken[key]} and {each!r} on '{path}'. "
                        "Give them different `targets`."
                    )
                taken[key] = repr(each)
            found.append((each, path, layer))
    plan = [
        (each, layer, each.prepare(path, layer))
        for each, path, layer in _with_bar(
            [f for f in found if not f[0].needs_data], verbose
        )
    ]
    for each in needing:
        layers = {path: layer for a, path, layer in found if a is each}
        prepared = each.prepare_all(model, layers, data)
        plan += [(each, x, p) for x, p in zip(layers.values(), prepared)]

    # Then write.
    with unchanged_on_error(model):
        for variable in model.weights:
            variable.trainable = id(variable) in trainable_ids
        for each, layer, prepared in plan:
            each.attach(layer, prepared)
        mark_trained(model)
        keep_statistics(model, trainable_ids)
        refuse_copies(model)
        reset_training(model)
    return model


def _with_bar(items, verbose):
    """The items, with a progress bar if they seem to take a while."""
    began, bar = time.monotonic(), None
    for done, item in enumerate(items, 1):
        yield item
        seconds = (time.monotonic() - began) / done * len(items)
        if verbose and bar is None and seconds > _PROGRESS_AFTER_SECONDS:
            bar = keras.utils.Progbar(len(items), unit_name="layer")
        if bar is not None:
            bar.update(done)


def _trainable_rest(model, also_train, needed):
    """The variables besides the adapters that are to train."""
    state = {
        id(v)
        for layer in _keras_internals.flatten_layers(model)
        for v in _keras_internals.own_non_trainable_variables(layer)
    }
    variables = head_variables(model)
    if also_train is not None and also_train != ():
        chosen = select(
            model, also_train, lambda layer: bool(layer.weights), "also_train"
        )
        for layer in chosen.values():
            variables += layer.weights
    elif also_train is None and needed and not hasattr(model, "backbone"):
        layers = "\n".join(
            f"  {p}" for p, x in layer_paths(model).items() if x.weights
        )
        raise ValueError(
            "Expected `also_train` to name the layers that train beside the "
            "adapter, such as the head (`()` for none): only a KerasHub task "
            f"shows where its head is. Received: also_train=None. The model "
            f"has these layers:\n{layers}"
        )
    ids = {id(v) for v in variables}
    frozen = [
        path
        for path, layer in layer_paths(model).items()
        if getattr(layer, "quantization_mode", None) is not None
        and any(
            id(v) in ids
            for v in _keras_internals.own_non_trainable_variables(layer)
        )
    ]
    if frozen:
        raise ValueError(
            "Expected the head, and what `also_train` names, in floats: "
            f"integers do not train. Received: {frozen}, quantized. Quantize "
            'the rest only: `model.backbone.quantize("int8")`, or '
            "`model.quantize(..., filters=...)`."
        )
    return [v for v in variables if id(v) not in state]
