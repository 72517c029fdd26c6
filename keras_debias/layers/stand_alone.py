"""The common part of layers that are created with a low-rank adapter."""

from collections.abc import Callable

import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms import KernelForm
from keras_debias.linalg import kernel_view
from keras_debias.utils.numbers import require_flags

_START = "start_"


def own_adapter(layer: keras.Layer):
    """The adapter that a layer was made with, or `None`."""
    return layer.__dict__.get("own_adapter")


def make_adapter(name: str, **settings):
    """An adapter by its registered name.

    Adapters import layers, so these layers cannot import the adapters.
    """
    return keras.saving.get_registered_object(f"keras_debias>{name}")(
        **settings
    )


def trains_base(layer: keras.Layer) -> bool:
    """Whether kernel and bias of a stand-alone layer train as well."""
    return own_adapter(layer) is not None and getattr(
        layer, "train_kernel", False
    )


class StandAlone:
    """A `Dense` or `EinsumDense` layer that is made with its adapter.

    Mixed in before the layer's class. The adapter is one of `kd.adapters`, so
    functions for adapted models also work on models of such layers. Its
    weights are saved with the kernel's, in the layer's own group.
    """

    adapter_name = "LoRA"
    # Settings of the adapter besides those of LoRA.
    own_settings: tuple[str, ...] = ()
    # Attributes of the classes that it is mixed into.
    name: str
    form: KernelForm
    call: Callable
    reinitialize: Callable
    reset_updates: Callable
    _start_anew: Callable

    def keep_adapter(self, train_kernel, **settings):
        """Makes the adapter; called by the constructor."""
        require_flags(train_kernel=train_kernel)
        if self.lora_rank:
            raise ValueError(
                "Expected no `lora_rank`, Keras' own update beside this one. "
                f"Received: lora_rank={self.lora_rank}. Use `rank`."
            )
        self.train_kernel = train_kernel
        # Not as an attribute, which Keras would look into.
        self.__dict__["own_adapter"] = make_adapter(
            self.adapter_name, targets=(), **settings
        )

    @classmethod
    def from_layer(cls, layer, rank=8, **settings):
        """A layer with the weights and outputs of a pretrained one.

        Its kernel is frozen unless `train_kernel=True`.

        Args:
            layer: a built `Dense` or `EinsumDense` layer, which is left as
                it is.
            rank: int. Rank of the update. Defaults to `8`.
            **settings: arguments of the constructor besides those of the
                layer.

        Returns:
            A new, built layer of the same name.

        Raises:
            ValueError: If the layer is of another class, not built,
                quantized or adapted, or the rank does not fit.
        """
        plain = next(
            c
            for c in cls.__mro__
            if c in (keras.layers.Dense, keras.layers.EinsumDense)
        )
        if type(layer) is not plain or not layer.built:
            state = "" if getattr(layer, "built", True) else " not built"
            raise ValueError(
                f"Expected `layer` to be a built `{plain.__name__}` for a "
                f"`{cls.__name__}`. Received: layer={layer!r}{state}. Call "
                "it on a batch first; subclasses and adapted layers compute "
                "something else."
            )
        if layer.quantization_mode is not None or layer.lora_enabled:
            state = layer.quantization_mode or "enable_lora"
            raise ValueError(
                "Expected a layer in its original form. Received: "
                f"'{layer.name}', changed by Keras ({state}). Use "
                "`kd.adapters.apply` on a model of quantized layers."
            )
        # Raises where a kernel has no form as a matrix.
        kernel_view(layer)
        config = {"train_kernel": False, **layer.get_config(), **settings}
        # The factors train even if the layer was frozen.
        config.pop("trainable")
        result = cls.from_config({**config, "rank": rank})
        result.build_from_config(layer.get_build_config())
        targets = _keras_internals.base_variables(result)
        for name, variable in _keras_internals.base_variables(layer).items():
            targets[name].assign(variable)
        result.start_from_kernel()
        return result

    def get_config(self):
        settings = dict(self.__dict__["own_adapter"].get_config())
        del settings["targets"]
        return {
            **super().get_config(),
            **settings,
            "train_kernel": self.train_kernel,
        }

    def build(self, input_shape):
        super().build(input_shape)
        adapter = self.__dict__["own_adapter"]
        adapter.check_rank(self.name, kernel_view(self))
        # When the kernel has its values, which may be after this call.
        adapter.attach(self, lambda: adapter.start(self.name, self))
        trains = self.train_kernel
        self.kernel.trainable = trains
        if self.base_bias is not None:
            self.base_bias.trainable = trains or self.train_bias
        if not trains:
            own = _keras_internals.own_trainable_variables(self)
            self.trained_weights = tuple(
                sorted(v.name for v in own if v.trainable)
            )

    def start_from_kernel(self) -> None:
        """Resets the update and derives its start from the present kernel."""
        if self.form.has_start:
            self.reinitialize(
                self.__dict__["own_adapter"].start(self.name, self)
            )
        self.reset_updates()
        self._start_anew()

    def remove_low_rank(self):
        super().remove_low_rank()
        for name in ("own_adapter", "train_kernel"):
            self.__dict__.pop(name, None)

    # The parts of the sum are always saved, in the layer's own group: the
    # config of the layer says what they are.

    def save_own_variables(self, store):
        if not self.built:
            return
        self.check_enabled()
        self.save_adapters_separately_once()
        super().save_own_variables(store)
        for name, value in getattr(self, "initial_values", {}).items():
            store[f"{_START}{name}"] = value

    def load_own_variables(self, store):
        if not self.built:
            return
        names = store.keys()  # Not iterable itself.
        found = {name: np.array(store[name]) for name in names}
        starts = {
            name.removeprefix(_START): found.pop(name)
            for name in list(found)
            if name.startswith(_START)
        }
        super().load_own_variables(found)
        if not any(name in found for name in self.adapter_state()):
            self.start_from_kernel()
        if starts:
            present = getattr(self, "initial_values", {})
            self.initial_values = {**present, **starts}
