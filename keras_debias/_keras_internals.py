"""The only room that touches private attributes of Keras.

Checked with Keras 3.15. Each function says which private name it uses and
why no public one serves.
"""

import contextlib
import inspect
import io
from collections.abc import Callable

import keras
import numpy as np
from keras import ops
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.trainers.compile_utils import CompileLoss


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


def is_rematerialized(layer: keras.Layer) -> bool:
    """Whether a layer forgets its activations and computes them twice.

    `_remat_mode`: what `keras.RematScope` leaves on a layer.
    """
    return getattr(layer, "_remat_mode", None) is not None


def own_non_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The layer's own variables that were created as state.

    `_non_trainable_variables`: see `own_trainable_variables`.
    """
    return list(layer._non_trainable_variables)


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


def register_as(alias: type, original: type) -> None:
    """Makes objects of a class go by the registered name of another.

    `GLOBAL_CUSTOM_NAMES`: the decorator would give the name to the class.
    """
    from keras.src.saving import object_registration

    name = keras.saving.get_registered_name(original)
    object_registration.GLOBAL_CUSTOM_NAMES[alias] = name


class FilePart(KerasSaveable):
    """A group of its own beside a layer's in Keras' weights files.

    `KerasSaveable`: Keras asks its objects alone; a layer's own group must
    hold exactly what the plain layer has. `_obj_type`: one of its kinds, for
    the attributes it leaves out of its search.

    Args:
        save: function of a store to write into.
        load: function of a store to read from, empty where a file has none.
    """

    def __init__(self, save: Callable, load: Callable):
        self._save = save
        self._load = load

    def _obj_type(self):
        return "Loss"

    def save_own_variables(self, store):
        self._save(store)

    def load_own_variables(self, store):
        self._load(store)


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


def base_variables(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Kernel and bias of a `Dense` or `EinsumDense`, as Keras' files go.

    For a quantized layer also the scales and what else makes a kernel of the
    integers. `_kernel`: of packed integers, `kernel` gives an unpacked copy.
    """
    found = {}
    for name in layer.variable_serialization_spec[layer.quantization_mode]:
        if name == "kernel":
            variable = layer._kernel
        elif name == "bias":
            # On the layer itself: adapters may make `bias` more than that.
            variable = layer.__dict__.get("bias")
        else:
            variable = getattr(layer, name, None)
        if variable is not None:
            found[name] = variable
    return found


def has_value(variable: keras.Variable) -> bool:
    """Whether a variable has its initial value yet.

    `_value`: one that is made while a model is traced gets it afterwards, and
    until then `value` is another one each time.
    """
    return variable._value is not None


def kernel_shape(layer: keras.Layer) -> tuple[int, ...]:
    """The shape of the kernel of a built `Dense` or `EinsumDense`.

    `_orig_input_dim`, `_orig_output_dim`: asking `kernel` of packed integers
    unpacks them.
    """
    if layer.quantization_mode != "int4":
        shape = layer.kernel.shape
    elif isinstance(layer, keras.layers.EinsumDense):
        shape = layer.original_kernel_shape
    else:
        shape = (layer._orig_input_dim, layer._orig_output_dim)
    return tuple(int(size) for size in shape)


def dequantized_kernel(layer: keras.Layer):
    """The kernel, as a tensor of floats where it is kept as integers.

    `_adjust_scale_for_dequant`, `_int4_rows`, `_int4_unpacked_column_size`,
    `_int4_block_size`: Keras dequantizes inside private functions only.
    """
    if layer.quantization_mode is None:
        return ops.convert_to_tensor(layer.kernel)
    kernel = ops.cast(layer.kernel, "float32")
    scale = ops.cast(layer.kernel_scale, "float32")
    einsum = isinstance(layer, keras.layers.EinsumDense)
    if layer.quantization_mode == "int8":
        if einsum:
            scale = layer._adjust_scale_for_dequant(scale)
        return ops.divide(kernel, scale)
    if einsum:
        kernel = ops.reshape(
            kernel, (layer._int4_rows, layer._int4_unpacked_column_size)
        )
    if layer._int4_block_size in (None, -1):
        kernel = ops.divide(kernel, scale)
    else:
        # Rows come in groups of one scale and one zero for each column.
        groups = ops.cast(layer.g_idx, "int32")
        zero = ops.cast(layer.kernel_zero, "float32")
        kernel = ops.multiply(
            kernel - ops.take(zero, groups, axis=0),
            ops.take(scale, groups, axis=0),
        )
    return ops.reshape(kernel, kernel_shape(layer))


def quantized_product(layer: keras.Layer, inputs):
    """The inputs times the quantized kernel, by Keras' own path.

    That path adds the bias and applies the activation as well: it runs on a
    stand-in of the plain class which has the layer's weights and neither.
    """
    einsum = isinstance(layer, keras.layers.EinsumDense)
    plain = keras.layers.EinsumDense if einsum else keras.layers.Dense
    bare = object.__new__(plain)
    bare.__dict__.update(layer.__dict__)
    bare.__dict__.update(bias=None, activation=None)
    return bare.quantized_call(inputs)


def without_autocast():
    """A context in which weights keep their dtype inside a `call`.

    `AutocastScope`: Keras gives a layer half-precision copies of its
    weights, and lengths of columns want the weights themselves.
    """
    from keras.src.backend.common.variables import AutocastScope

    return AutocastScope(None)


def drop_compiled_functions(model: keras.Model) -> None:
    """Makes a model trace its step functions anew at the next call.

    The attributes are public, but not every model has all of them.
    """
    for name in ("train", "test", "predict", "generate"):
        if hasattr(model, f"{name}_function"):
            setattr(model, f"{name}_function", None)


def start_at_epoch(model: keras.Model, epoch: int) -> None:
    """Makes the `fit` that runs begin at a later epoch.

    `_initial_epoch`: what Keras' own `BackupAndRestore` sets.
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


def hub_import_map(model: keras.Model) -> list[tuple] | None:
    """How KerasHub would fill a model from a Hugging Face checkpoint.

    Returns one `(variable, hugging_face_key, hook)` per weight, where `hook`
    is `None` or makes the variable's value of `(array, shape)`, or `None` if
    KerasHub has no importer for the model's backbone, or one that cannot be
    followed. The importer runs for real, with a loader that only takes
    notes. Nothing is written: assignments end in a `StatelessScope`.

    `keras_hub.src.utils.transformers` (KerasHub 0.32): the importers are
    functions that fill a model, and there is no public table of names.
    """
    try:
        from keras_hub.src.utils.transformers import preset_loader
    except ImportError:
        return None
    backbone = getattr(model, "backbone", model)
    importers = {
        module.backbone_cls: module
        for module in vars(preset_loader).values()
        if hasattr(module, "backbone_cls")
    }
    importer = importers.get(type(backbone))
    if importer is None:
        # Llama 2 has the names and layers of Llama 3, whose backbone is a
        # subclass of it that changes no layer.
        related = [
            module
            for other, module in importers.items()
            if getattr(other, "__bases__", ()) == (type(backbone),)
        ]
        if len(related) != 1:
            return None
        importer = related[0]
    loader = _RecordingLoader()
    # What importers read here: GPT-2's to cut its fused weight, Gemma 3's to
    # tell a model without an image encoder.
    config = _AnyConfig(n_embd=getattr(backbone, "hidden_dim", None))
    if getattr(backbone, "vision_encoder", None) is None:
        config["model_type"] = "gemma3_text"
    try:
        # Some importers print.
        with (
            keras.StatelessScope(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            importer.convert_weights(backbone, loader, config)
    # Importers that put weights together by hand fail in all kinds of ways.
    except Exception:  # noqa: BLE001
        return None
    if model is not backbone and hasattr(importer, "convert_head"):
        head = _RecordingLoader()
        # Written for one task of several.
        with contextlib.suppress(Exception), keras.StatelessScope():
            importer.convert_head(model, head, config)
            loader.notes += head.notes
    return loader.notes


class _RecordingLoader:
    """Stands in for KerasHub's `SafetensorLoader`."""

    safetensor_config = None
    prefix = ""
    preset = None

    def __init__(self):
        self.notes = []

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
        self.notes.append((keras_variable, hf_weight_key, hook_fn))

    def get_tensor(self, hf_weight_key):
        # Small enough to broadcast where an importer adds it to a weight.
        return np.zeros((1, 1), "float32")

    def get_prefixed_key(self, hf_weight_key, dict_like):
        return hf_weight_key


class _AnyConfig(dict):
    """A Hugging Face configuration in which little is set."""

    def __missing__(self, key):
        return None


# Attention.


class AttendsToMore:
    """Mixed into an attention class: more keys and values than its own.

    `_compute_attention` and `_mask_sliding_window` (Keras 3.15, KerasHub
    0.32): projected keys and values, those of a cache too, are together
    nowhere else. A window over positions knows nothing of the others.
    """

    def more(self, query, key, value, attention_mask) -> tuple:
        """Keys, values and mask in place of the layer's own.

        Those that are more come first; the mask is never `None`.
        """
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many they are."""
        raise NotImplementedError

    def _compute_attention(self, *args, **kwargs):
        function = super()._compute_attention
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        names = attention_arguments(type(self))
        query, key, value, mask = (given.get(name) for name in names)
        found = self.more(query, key, value, mask)
        given = {**given, **dict(zip(names[1:], found))}
        return function(**given)

    def _mask_sliding_window(self, attention_mask, *args, **kwargs):
        own = attention_mask[..., self.count :]
        own = super()._mask_sliding_window(own, *args, **kwargs)
        rest = ops.cast(attention_mask[..., : self.count], own.dtype)
        rest = ops.broadcast_to(rest, (*ops.shape(own)[:-1], self.count))
        return ops.concatenate([rest, own], axis=-1)


def attention_arguments(attention_class: type) -> list[str] | None:
    """What a class calls queries, keys, values and the mask between.

    `None` for one that does not compute attention from these four, such as
    one with positions relative to each other.
    """
    for parent in attention_class.__mro__:
        function = vars(parent).get("_compute_attention")
        if function is not None and parent is not AttendsToMore:
            names = list(inspect.signature(function).parameters)[1:5]
            fits = len(names) == 4 and names[3] == "attention_mask"
            return names if fits else None
    return None


def rotary_embedding(attention: keras.Layer):
    """The function that rotates keys, of `(x, start_index)`, or `None`.

    `_apply_rope`: Gemma's layers reorder what their layer has rotated.
    """
    for name in ("_apply_rope", "rotary_embedding_layer"):
        found = getattr(attention, name, None)
        if found is not None:
            return lambda x, start: found(x, start_index=start)
    return None


# Optimizers.


class TwoRates:
    """Mixed into an optimizer class: some weights learn at another rate.

    `_backend_update_step` and `_apply_weight_decay`: each backend has its own
    way of updating many weights at once, all of which call these two.
    """

    # Times the learning rate, for the weights for which `is_faster` holds.
    ratio = 1.0

    def is_faster(self, variable) -> bool:
        """Whether a weight learns at `ratio` times the learning rate."""
        return False

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        pairs = list(zip(grads, trainable_variables))
        for faster in (False, True):
            chosen = [(g, v) for g, v in pairs if self.is_faster(v) == faster]
            if chosen:
                super()._backend_update_step(
                    [g for g, _ in chosen],
                    [v for _, v in chosen],
                    learning_rate * self.ratio if faster else learning_rate,
                )

    def _apply_weight_decay(self, variables):
        decay = self.weight_decay
        if decay is None:
            return
        try:
            for faster in (False, True):
                chosen = [
                    v
                    for v in variables
                    if self.is_faster(v) == faster and self._use_weight_decay(v)
                ]
                self.weight_decay = decay * self.ratio if faster else decay
                if chosen:
                    super()._apply_weight_decay(chosen)
        finally:
            self.weight_decay = decay


class SmallerState:
    """Mixed into an optimizer class: some state is smaller than its weight.

    `_get_variable_index`, and `_backend_update_step`: on torch some optimizers
    update all weights in one call (`_parallel_update_step`), which expects
    their shapes. `average` and `gradient_accumulator` are what Keras calls
    its own state.
    """

    # By the number of a weight: what makes a gradient small, or `None`.
    small: list = []

    def state_shape(self, variable) -> tuple[int, ...]:
        """The shape of what the optimizer keeps for a weight."""
        raise NotImplementedError

    def small_of(self, variable):
        return self.small[self._get_variable_index(variable)]

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ):
        shape = self.state_shape(reference_variable)
        if name in ("average", "gradient_accumulator") or shape == tuple(
            reference_variable.shape
        ):
            return super().add_variable_from_reference(
                reference_variable, name=name, initializer=initializer
            )
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(
            shape=shape,
            initializer=initializer,
            dtype=reference_variable.dtype,
            name=f"{path}_{name or 'var'}",
        )

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if getattr(type(self), "_parallel_update_step", None) is None:
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        for gradient, variable in zip(grads, trainable_variables):
            self.update_step(gradient, variable, learning_rate)


def updates_weights_alone(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer's updates can be made in parts.

    `_backend_update_step`: `Nadam` moves a product on in it, and a wrapper
    does not use its own.
    """
    own = "keras.src.optimizers."
    base = f"{own}base_optimizer"
    overriding = [
        c
        for c in type(optimizer).__mro__
        if {"_backend_update_step", "apply", "stateless_apply"} & set(vars(c))
        and c.__module__.startswith(own)
        and c.__module__ != base
    ]
    return not overriding
