"""Saving and loading of layers that have adapter weights."""

import hashlib

import numpy as np
from keras import ops

from keras_debias import _keras_internals

# Names of the variables that switch the parts of an adapter on and off.
GATES = (
    *("lora_gate", "bias_gate", "transform_gate"),
    *("prefix_gate", "prompt_gate"),
)


def stored_bias(layer):
    """The bias weight of a layer, or `None`. `bias` may include updates."""
    return layer.__dict__.get("bias")


class AdaptedLayer:
    """Saves and loads a `Dense` or `EinsumDense` layer with adapters.

    A mixin. A checkpoint of the bare model must load into a model without
    adapters, so it holds the merged weights. It also holds the separate
    parts, in a group that a plain layer ignores. Loaded into a model with
    the same adapters and the same base, the parts restore both exactly.
    Loaded into any other model, the sum goes into the base, and
    `adapters.save` then refuses that model. `DebiasedModel` requests the
    parts alone, for one save, with `save_adapters_separately_once`.
    """

    name: str
    path: str
    quantization_mode: str | None
    _save_separately = False

    @property
    def base_bias(self):
        """The layer's own bias, or `None`."""
        return stored_bias(self)

    def adapter_state(self) -> dict:
        """The adapter weights that a file must hold, by name."""
        return {}

    def check_merge(self) -> None:
        """Raises if an update cannot be added to the kernel."""
        if self.quantization_mode is not None:
            raise ValueError(
                "Expected a kernel of floats to merge into. Received: "
                f"'{self.path}', quantized to {self.quantization_mode}: "
                "rounding the sum again would change the outputs. Keep the "
                "adapter beside its base: `adapters.save` the adapter, or "
                "save the `DebiasedModel` around the network."
            )

    def merged_kernel(self):
        """The kernel with all updates added, in its dtype."""
        return _keras_internals.base_variables(self)["kernel"].value

    def merged_bias(self):
        """The bias with all updates added, or `None` if there is no bias."""
        return None if self.base_bias is None else self.base_bias.value

    def reset_updates(self) -> None:
        """Resets all updates to zero."""

    def save_adapters_separately_once(self) -> None:
        """Makes the next save write adapters apart from the base."""
        self._save_separately = True

    def save_own_variables(self, store):
        if not self.built:
            return
        separately, self._save_separately = self._save_separately, False
        self.file_parts()
        self.__dict__["_has_parts"] = not separately
        base = _keras_internals.base_variables(self)
        if separately:
            for index, variable in enumerate(base.values()):
                store[str(index)] = variable
            for name, variable in self.adapter_state().items():
                store[name] = variable
            return
        self.check_enabled()
        bias = self.merged_bias()
        if bias is not None and self.base_bias is None:
            raise ValueError(
                "Expected weights that fit the layer without adapters. "
                f"Received: '{self.name}' with a bias that was injected. "
                "Save the adapter with `adapters.save`, or save the "
                "`DebiasedModel` around the network."
            )
        base["kernel"] = self.merged_kernel()
        if bias is not None:
            base["bias"] = bias
        for index, value in enumerate(base.values()):
            store[str(index)] = value

    def load_own_variables(self, store):
        if not self.built:
            return
        base = _keras_internals.base_variables(self).values()
        targets = {str(index): variable for index, variable in enumerate(base)}
        state = self.adapter_state()
        separate = any(name in store for name in state)
        if separate:
            targets.update(state)
        missing = [name for name in targets if name not in store]
        if missing or len(store.keys()) != len(targets):
            raise ValueError(
                f"Layer '{self.name}' expected the variables "
                f"{list(targets)}. Received: {sorted(store.keys())}. The "
                "file was saved from a layer with another bias setting or "
                "another adapter."
            )
        before = {name: np.array(store[name]) for name in targets}
        if not separate:
            self.file_parts()
            self.__dict__["_before_load"] = self._way_back()
        for name, variable in targets.items():
            variable.assign(before[name])
        if not separate:
            self.reset_updates()
            self._start_anew()

    # What a file of the bare model holds besides the merged weights.

    def file_parts(self):
        """The group of the parts in Keras' files, made once."""
        if "adapter_parts" not in self.__dict__:
            # Not as an attribute: Keras would keep track of it.
            self.__dict__["adapter_parts"] = _keras_internals.FilePart(
                self._save_parts, self._load_parts
            )
        return self.__dict__["adapter_parts"]

    def check_enabled(self) -> None:
        """Raises if the updates are switched off."""
        for name in GATES:
            gate = self.__dict__.get(name)
            if gate is not None and not float(ops.convert_to_numpy(gate)):
                raise ValueError(
                    "Expected enabled adapters. Received: "
                    f"'{self.name}', which is disabled: the file would hold "
                    "the pretrained weights. Leave `adapters.disabled` first."
                )

    def _whole(self) -> list[tuple]:
        """`(name, variable)` pairs of everything that a file restores."""
        base = _keras_internals.base_variables(self)
        own = {f"base_{name}": variable for name, variable in base.items()}
        return list({**own, **self.adapter_state()}.items())

    def _way_back(self):
        """The current values, and a function that restores them."""
        values = {name: as_copy(variable) for name, variable in self._whole()}
        starts = dict(getattr(self, "initial_values", {}))

        # A function: Keras looks for layers in all attributes that are dicts.
        def undo():
            for name, variable in self._whole():
                variable.assign(values[name])
            if starts:
                self.initial_values = starts

        undo.kernel = values["base_kernel"]
        return undo

    def _start_anew(self) -> None:
        """Makes loaded trainable base weights the initial values."""
        values = getattr(self, "initial_values", None)
        if values:
            own = _keras_internals.base_variables(self).values()
            now = {v.name: as_copy(v).astype("float32") for v in own}
            self.initial_values = {k: now.get(k, v) for k, v in values.items()}

    def _save_parts(self, store):
        if not self.__dict__.pop("_has_parts", False):
            return
        for name, variable in self._whole():
            if name == "base_kernel" and not variable.trainable:
                # The model that loads it has the kernel itself.
                store["kernel_digest"] = _digest(variable)
            else:
                store[name] = variable
        values = getattr(self, "initial_values", {})
        for name, value in values.items():
            store[f"start_{name}"] = value

    def _load_parts(self, store):
        undo = self.__dict__.pop("_before_load", None)
        if undo is None or not len(store.keys()):
            return
        names = store.keys()  # Not iterable itself.
        found = {name: np.array(store[name]) for name in names}
        digest = found.pop("kernel_digest", None)
        starts = {
            name.removeprefix("start_"): found.pop(name)
            for name in list(found)
            if name.startswith("start_")
        }
        variables = dict(self._whole())
        shapes = {name: tuple(v.shape) for name, v in variables.items()}
        if digest is not None:
            found["base_kernel"] = undo.kernel
        fits = {name: value.shape for name, value in found.items()} == shapes
        if digest is not None and fits:
            fits = np.array_equal(digest, _digest(found["base_kernel"]))
        if not fits:
            # Other adapters or another base: load the merged weights, with
            # updates of zero. A folder of adapters could not restore that.
            moved = {*getattr(self, "moved_weights", ()), "kernel"}
            self.moved_weights = tuple(sorted(moved))
            return
        undo()
        for name, value in found.items():
            variables[name].assign(value)
        if starts:
            present = getattr(self, "initial_values", {})
            self.initial_values = {**present, **starts}


def as_copy(variable) -> np.ndarray:
    """A copy of a variable or array, in its dtype."""
    return np.array(ops.convert_to_numpy(variable))


def _digest(variable) -> np.ndarray:
    data = np.ascontiguousarray(as_copy(variable)).tobytes()
    return np.frombuffer(hashlib.sha256(data).digest(), "uint8").copy()


def initial(array):
    """An initializer that gives a copy of an array.

    Each call makes a copy: jax may reuse the memory that it receives.
    """
    array = np.array(array, dtype="float32")

    def initialize(shape, dtype=None):
        return ops.convert_to_tensor(array, dtype=dtype)

    return initialize
