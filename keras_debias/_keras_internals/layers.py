"""Layers: what is below them, their weights, their class."""

from collections.abc import Callable

import keras


def flatten_layers(model: keras.Layer) -> list[keras.Layer]:
    """All layers below `model`, each once.

    `_flatten_layers`: public `model.layers` stops at the first level, and
    blocks such as `TransformerEncoder` have no `layers` at all.
    """
    return model._flatten_layers(include_self=False)


def child_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly below `layer`, in the order Keras tracks them.

    `_layers`: see `flatten_layers`.
    """
    return list(layer._layers)


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The layer's own variables that were created trainable.

    `_trainable_variables`: the public lists go by the present flag, which
    freezing changes; this one tells weights from state for good.
    """
    return list(layer._trainable_variables)


def own_non_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The layer's own variables that were created as state.

    `_non_trainable_variables`: see `own_trainable_variables`.
    """
    return list(layer._non_trainable_variables)


def is_rematerialized(layer: keras.Layer) -> bool:
    """Whether a layer forgets its activations and computes them twice.

    `_remat_mode`: what `keras.RematScope` leaves on a layer.
    """
    return getattr(layer, "_remat_mode", None) is not None


def has_value(variable: keras.Variable) -> bool:
    """Whether a variable has its initial value yet.

    `_value`: one that is made while a model is traced gets it afterwards, and
    until then `value` is another one each time.
    """
    return variable._value is not None


def current_values(variables: list[keras.Variable]) -> list:
    """The values of variables, of a whole network in less time.

    `in_stateless_scope`, `_value`: `value` asks for scopes at each variable.
    """
    from keras.src.backend.common.stateless_scope import in_stateless_scope

    if in_stateless_scope():
        return [v.value for v in variables]
    return [v.value if v._value is None else v._value for v in variables]


def swap_class(layer: keras.Layer, layer_class: type, change: Callable) -> None:
    """Turns a built layer into another class in place, then calls `change`.

    `_tracker`: Keras locks tracking after `build`; `change` adds weights.
    The graph, the path and all references to the layer survive. When
    `change` fails, the layer is what it was.
    """
    previous = layer.__class__
    layer.__class__ = layer_class
    layer._tracker.unlock()
    try:
        change()
    except BaseException:
        layer.__class__ = previous
        raise
    finally:
        layer._tracker.lock()


def remember(layers: list[keras.Layer]) -> Callable:
    """Notes classes, attributes and weights of layers; returns the way back.

    `_tracker`: Keras' own lists of a layer's weights and parts, which it
    changes in place. On torch also those of `torch.nn.Module`.
    """
    notes = []
    for layer in layers:
        tracker = layer._tracker
        inside = [(store, list(store)) for _, store in tracker.config.values()]
        ids = {name: set(found) for name, found in tracker.stored_ids.items()}
        tables = [
            (table, dict(table))
            for name in ("_parameters", "_modules", "_buffers")
            if isinstance(table := layer.__dict__.get(name), dict)
        ]
        attributes = dict(layer.__dict__)
        own = layer.__class__, attributes, tracker.locked
        notes.append((layer, own, inside, ids, tables))

    def restore():
        for layer, own, inside, ids, tables in notes:
            layer.__class__, attributes, locked = own
            layer.__dict__.clear()
            layer.__dict__.update(attributes)
            for store, items in inside:
                # Not through the list's own methods, which keep track.
                list.clear(store)
                list.extend(store, items)
            layer._tracker.stored_ids.update(ids)
            layer._tracker.locked = locked
            for table, items in tables:
                table.clear()
                table.update(items)
            if any("_torch_params" in items for _, items in tables):
                layer._track_variables()

    return restore


def forget(layer: keras.Layer, name: str) -> None:
    """Takes an attribute of a layer away, if it is there.

    `_tracked`, `_delete_tracking`: on tensorflow Keras and tensorflow keep
    the names of collections and weights, and look for them when they write a
    SavedModel. `delattr` leaves those of Keras.
    """
    layer.__dict__.pop(name, None)
    names = layer.__dict__.get("_tracked")
    if names is not None and name in names:
        layer.__dict__["_tracked"] = [n for n in names if n != name]
    if hasattr(layer, "_delete_tracking"):
        layer._delete_tracking(name)


def remove_weight(layer: keras.Layer, variable: keras.Variable) -> None:
    """Takes a weight away from a built layer.

    `_untrack_variable`: there is no public opposite of `add_weight`.
    """
    layer._untrack_variable(variable)


def remove_seed_generator(
    layer: keras.Layer, generator: keras.random.SeedGenerator
) -> None:
    """Takes a seed generator away from a built layer.

    `_tracker`: see `remove_weight`.
    """
    layer._tracker.unlock()
    layer._tracker.untrack(generator)
    layer._tracker.lock()


def get_keras_mask(tensor):
    """The mask that a layer attached to its output, or `None`.

    `get_keras_mask`: embeddings with `mask_zero` hand their mask on as an
    attribute of the outputs, which no public function reads.
    """
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


def set_keras_mask(tensor, mask) -> None:
    """Attaches a mask to a tensor, as a layer does to its output.

    `set_keras_mask`: see `get_keras_mask`.
    """
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask)


def without_autocast():
    """A context in which weights keep their dtype inside a `call`.

    `AutocastScope`: Keras gives a layer half-precision copies of its
    weights, and lengths of columns want the weights themselves.
    """
    from keras.src.backend.common.variables import AutocastScope

    return AutocastScope(None)
