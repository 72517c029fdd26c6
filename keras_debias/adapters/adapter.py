import abc

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.selection import plain_selector
from keras_debias.adapters.selection import select
from keras_debias.layers.adapted_layer import AdaptedLayer
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.stand_alone import own_adapter
from keras_debias.utils.configurable import Configurable

# Keys of bias ownership; "query bias" etc. are parts of a fused bias.
BIAS_CLAIMS = frozenset({"bias", "query bias", "key bias", "value bias"})


class Adapter(Configurable, abc.ABC):
    """Base class of all adapters: a small change to some layers that trains.

    An adapter holds settings and no weights, so one object can be applied to
    many models. `keras_debias.adapters.apply` calls `prepare` for every chosen
    layer first, which may raise and must not change anything, and `attach` for
    all of them afterwards, which must not fail. `placeholder` stands in for
    `prepare` where saved weights follow.

    Args:
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The layers to adapt. Defaults to
            `("query", "value")`.

    The methods share their arguments: `path` is the path of a layer in the
    model, `layer` the `keras.Layer` itself, `layers` a dict of layers by path,
    and `training` the set of ids of the variables that train besides the
    adapters.

    Example:

    >>> adapter = kd.adapters.LoRA(rank=2, targets="*/query")
    >>> adapter.targets, adapter.needs_data
    ('*/query', False)
    """

    # Whether `adapters.apply` must be given `data`.
    needs_data = False
    # Whether the kernel, or an update of it, trains: see `KernelAdapter`.
    trains_kernel = False
    # Whether it makes sense only on layers that are otherwise frozen.
    needs_frozen_layers = False

    def __init__(self, targets=("query", "value")):
        if isinstance(targets, (list, tuple)):
            targets = tuple(targets)
        self.targets = targets

    # Which layers.

    def resolve(self, model, training) -> list["Adapter"]:
        """The adapters to apply: itself, or parts for some layers each."""
        return [self]

    def find(self, model, training) -> dict[str, keras.Layer]:
        """The layers to adapt, by path.

        Wildcards and functions select many layers at once, so layers that
        train as a whole, such as the head, are left out where
        `needs_frozen_layers` is set.

        Raises:
            ValueError: If the targets match no layer, or name a layer that
                trains as a whole.
        """
        return self.chosen(model, self.targets, "targets", training)

    def chosen(
        self, model, selector, argument, training
    ) -> dict[str, keras.Layer]:
        """The layers of a selector, by path; see `find`.

        Args:
            model: the model.
            selector: as `targets`.
            argument: string. The argument's name, for the error.
            training: as for `find`.
        """
        found = select(model, selector, self.accepts, argument)
        named = (selector,) if isinstance(selector, str) else selector
        loose = callable(named) or any(set("*?[") & set(n) for n in named)
        whole = {
            path
            for path, layer in found.items()
            if self.needs_frozen_layers and _trains_whole(layer, training)
        }
        if whole and (not loose or whole == set(found)):
            raise ValueError(
                f"Expected `{argument}` without the layers that train whole, "
                "such as the head: an update beside a frozen random kernel "
                f"is no substitute. Received: {argument}={selector!r}, "
                f"which names {sorted(whole)[:3]}. Leave them out of "
                f"`{argument}`, or of `also_train`."
            )
        return {path: x for path, x in found.items() if path not in whole}

    @abc.abstractmethod
    def accepts(self, layer) -> bool:
        """Whether a layer is of a kind that can be adapted at all."""

    @abc.abstractmethod
    def exclusive_parts(self, layer) -> set[str]:
        """The parts of a layer that no other adapter may train as well."""

    def check(self, path, layer) -> None:
        """Raises if the layer cannot take this adapter."""

    def check_layer(self, path, layer) -> None:
        """Raises unless the layer is a built, plain `Dense` or its like.

        Raises:
            ValueError: If it is a subclass of them, or has no weights yet.
        """
        if original_class(layer) is None:
            raise ValueError(
                "Expected a `Dense` or `EinsumDense` layer. Received: "
                f"'{path}' of the subclass `{type(layer).__name__}`, whose "
                "`call` an adapter cannot know. Leave it out of `targets`."
            )
        if not layer.built:
            raise ValueError(
                "Expected a built model. Received: the layer "
                f"'{path}' has no weights yet. Call the model on a batch "
                "before `adapters.apply`."
            )

    def check_free(self, path, layer, way_out) -> None:
        """Raises if another adapter trains the same part of the layer.

        Args:
            path: string. Path of the layer.
            layer: the layer.
            way_out: string. What to do about it, for the message.

        Raises:
            ValueError: If one does, or changes all that enters or leaves it.
        """
        others = adapters_of(layer)
        taken = set().union(*(a.exclusive_parts(layer) for a in others))
        if "transform" in taken:
            raise ValueError(
                "Expected a layer that takes another adapter. Received: "
                f"'{path}' with {adapters_of(layer)}, which changes all that "
                "enters or leaves it. Choose other `targets`."
            )
        if taken & self.exclusive_parts(layer):
            raise ValueError(
                "Expected a layer whose bias does not train yet. Received: "
                f"'{path}' with {adapters_of(layer)}. {way_out}"
            )

    def check_directions(self, path, layer) -> None:
        """Raises if no constraint can keep the adapter from directions."""

    # On and off.

    def prepare(self, path, layer):
        """Computes what `attach` needs; raises if that is impossible."""
        self.check(path, layer)
        return self.placeholder(layer)

    def prepare_all(self, model, layers: dict, data) -> list:
        """What `attach` needs of each layer, for an adapter with `needs_data`.

        Args:
            model: the model.
            layers: the layers by path.
            data: the `data` of `adapters.apply`.

        Returns:
            A list with one item for each layer, in their order.
        """
        return [self.prepare(path, layer) for path, layer in layers.items()]

    def placeholder(self, layer):
        """What `prepare` gives, before weights are loaded over it."""
        return None

    @abc.abstractmethod
    def attach(self, layer, prepared) -> None:
        """Changes the layer; `prepared` is what `prepare` returned."""

    def disabled_values(self, layer) -> list[tuple]:
        """`(variable, value)` pairs that switch the adapter off."""
        return initial_assignments(layer)

    def check_merge(self, path, layer, layers) -> None:
        """Raises if merging would not be exact; `layers` has all paths."""

    @abc.abstractmethod
    def merge(self, path, layer, layers) -> None:
        """Adds the update to the base and removes the adapter."""

    # What a file holds.

    @abc.abstractmethod
    def state(self, layer) -> dict[str, keras.Variable]:
        """The weights of the adapter on a layer, by name."""

    @abc.abstractmethod
    def state_shapes(self, layer) -> dict[str, tuple[int, ...]]:
        """The shapes of `state` on a layer that is not adapted yet."""

    @abc.abstractmethod
    def base(self, layer) -> dict[str, np.ndarray]:
        """The pretrained values that the adapter was made for, by name."""

    def get_config(self) -> dict:
        return {"targets": plain_selector(self.targets)}


def _trains_whole(layer, training) -> bool:
    own = _keras_internals.own_trainable_variables(layer)
    return (
        bool(own)
        and not adapters_of(layer)
        and all(id(v) in training for v in own)
    )


# Base weights that train keep their starting values on the layer, so that
# they can be switched off: `layer.initial_values`, by name.


def train_base(layer: keras.Layer, variables: list) -> None:
    """Makes weights of a layer train and keeps their values.

    Includes its state, such as moving means, which training changes.
    """
    values = dict(getattr(layer, "initial_values", {}))
    for variable in moving_state(layer):
        values[variable.name] = as_array(variable)
    for variable in variables:
        values[variable.name] = as_array(variable)
        variable.trainable = True
    layer.initial_values = values


def keep_statistics(model: keras.Model, training: set[int]) -> None:
    """Stores the state of frozen layers that training changes anyway.

    Keras stops the moving means of a layer whose `trainable` is false, but not
    of a layer whose weights are frozen one by one. Layers that train as a
    whole are left out, because `disabled` does not change them.

    Args:
        model: the model.
        training: ids of the variables that train besides the adapters.
    """
    for layer in _keras_internals.flatten_layers(model):
        own = _keras_internals.own_trainable_variables(layer)
        if any(id(v) in training for v in own):
            continue
        state = [v for v in moving_state(layer) if v.dtype != "string"]
        values = dict(getattr(layer, "initial_values", {}))
        new = {v.name: as_array(v) for v in state if v.name not in values}
        if new:
            layer.initial_values = {**values, **new}


def moved_statistics(layer: keras.Layer) -> list[keras.Variable]:
    """The state of a layer that has changed since the start."""
    values = getattr(layer, "initial_values", {})
    return [
        v
        for v in moving_state(layer)
        if v.name in values and not np.array_equal(as_array(v), values[v.name])
    ]


# Names of the weights of a layer that train or have trained as a whole. Frozen
# or quantized weights stay listed: they no longer belong to the base.


def mark_moved(layer: keras.Layer, names) -> None:
    known = set(getattr(layer, "moved_weights", ()))
    if not known.issuperset(names):
        layer.moved_weights = tuple(sorted(known.union(names)))


def is_moved(layer: keras.Layer, variable: keras.Variable) -> bool:
    return variable.name in getattr(layer, "moved_weights", ())


def moving_state(layer: keras.Layer) -> list[keras.Variable]:
    """The state of a layer that training moves, such as moving means.

    Adapted and quantized layers are left out, because they stay frozen.
    """
    quantized = getattr(layer, "quantization_mode", None) is not None
    if quantized or isinstance(layer, AdaptedLayer):
        return []
    return _keras_internals.own_non_trainable_variables(layer)


def frozen_kernel(layer: keras.Layer) -> dict[str, np.ndarray]:
    """The kernel by name, with the scales of a quantized one."""
    return {
        name: initial_value(layer, variable)
        for name, variable in _keras_internals.base_variables(layer).items()
        if name != "bias"
    }


def initial_assignments(layer: keras.Layer) -> list[tuple]:
    """`(variable, starting value)` of the base weights that train."""
    values = getattr(layer, "initial_values", {})
    own = _keras_internals.own_trainable_variables(layer)
    own += _keras_internals.own_non_trainable_variables(layer)
    return [(v, values[v.name]) for v in own if v.name in values]


def initial_value(layer: keras.Layer, variable: keras.Variable):
    """What a base weight was before it trained, as an array."""
    values = getattr(layer, "initial_values", {})
    return values.get(variable.name, as_array(variable))


def drop_starting_values(layer: keras.Layer, names: list[str]) -> None:
    """Removes the initial values of weights that an adapter releases."""
    values = getattr(layer, "initial_values", {})
    layer.initial_values = {
        name: value for name, value in values.items() if name not in names
    }


def adapters_of(layer: keras.Layer) -> tuple[Adapter, ...]:
    """The adapters on a layer, in the order they were applied."""
    return getattr(layer, "adapters", ())


def add_adapter(layer: keras.Layer, adapter: Adapter) -> None:
    layer.adapters = (*adapters_of(layer), adapter)


def replace_adapter(layer: keras.Layer, old: Adapter, new: Adapter) -> None:
    """Replaces an adapter of a layer by another one."""
    layer.adapters = tuple(new if a is old else a for a in adapters_of(layer))
    if own_adapter(layer) is old:
        layer.__dict__["own_adapter"] = new


def remove_adapter(layer: keras.Layer, adapter: Adapter) -> None:
    layer.adapters = tuple(a for a in adapters_of(layer) if a is not adapter)


def as_array(variable) -> np.ndarray:
    """A copy of a variable, float32 unless it holds integers."""
    if "float" not in str(variable.dtype):
        return np.array(ops.convert_to_numpy(variable.value))
    value = ops.cast(variable.value, "float32")
    return np.array(ops.convert_to_numpy(value))
