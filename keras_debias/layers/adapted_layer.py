"""What all layers with adapter weights of their own share."""

import numpy as np
from keras import ops

from keras_debias import _keras_internals


def own_bias(layer):
    """The bias weight of a layer, or `None`: `bias` may be more than that."""
    return layer.__dict__.get("bias")


class AdaptedLayer:
    """Saves and loads a `Dense` or `EinsumDense` layer with adapters.

    A mixin. What a checkpoint of the bare model holds must load into a model
    without adapters, hence merged; a `DebiasedModel` restores the adapters
    and asks for the parts, with `save_parts_next`, for one save.
    """

    _save_separately = False

    @property
    def base_bias(self):
        """The layer's own bias, or `None`."""
        return own_bias(self)

    def adapter_state(self) -> dict:
        """The adapter weights that a file must hold, by name."""
        return {}

    def merged_kernel(self):
        """The kernel with all updates added, in its dtype."""
        return _keras_internals.base_variables(self)["kernel"].value

    def merged_bias(self):
        """The bias with all updates added, `None` where there is none."""
        return None if self.base_bias is None else self.base_bias.value

    def reset_updates(self) -> None:
        """Makes all updates zero again."""

    def save_parts_next(self) -> None:
        """Makes the next save write adapters apart from the base."""
        self._save_separately = True

    def save_own_variables(self, store):
        if not self.built:
            return
        separately, self._save_separately = self._save_separately, False
        base = _keras_internals.base_variables(self)
        if separately:
            for index, variable in enumerate(base.values()):
                store[str(index)] = variable
            for name, variable in self.adapter_state().items():
                store[name] = variable
            return
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
        for name, variable in targets.items():
            variable.assign(store[name])
        if not separate:
            self.reset_updates()


def initial(array):
    """An initializer that gives a copy of an array.

    A copy each: jax may take over the memory it is given.
    """
    array = np.array(array, dtype="float32")

    def initialize(shape, dtype=None):
        return ops.convert_to_tensor(array, dtype=dtype)

    return initialize
