"""Adds adapter weights to blocks and attention layers, and removes them."""

import keras
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.adapted_layer import AdaptedLayer


class BlockUpdate(AdaptedLayer):
    """Saves and loads a composite layer with adapter weights.

    A mixin for layers other than `Dense` and `EinsumDense`, whose own weights
    cannot include the update.
    """

    @property
    def base_bias(self):
        return None

    def has_update(self) -> bool:
        """Whether the adapter changes what the layer computes."""
        return any(
            ops.convert_to_numpy(v.value).any()
            for v in self.adapter_state().values()
        )

    def _own(self):
        added = {id(v) for v in self.adapter_variables()}
        own = _keras_internals.own_trainable_variables(self)
        own += _keras_internals.own_non_trainable_variables(self)
        own = [v for v in own if id(v) not in added]
        return {str(index): variable for index, variable in enumerate(own)}

    def adapter_variables(self) -> list[keras.Variable]:
        """All variables of the adapter, also those that are never saved."""
        return list(self.adapter_state().values())

    def save_own_variables(self, store):
        separately, self._save_separately = self._save_separately, False
        for name, variable in self._own().items():
            store[name] = variable
        state = self.adapter_state()
        if separately:
            for name, variable in state.items():
                store[name] = variable
        elif self.has_update():
            raise ValueError(
                "Expected weights that fit the layer without adapters. "
                f"Received: '{self.name}' with the adapter weights "
                f"{list(state)}. Save the adapter with `adapters.save`, or "
                "save the `DebiasedModel` around the network."
            )

    def load_own_variables(self, store):
        targets, state = self._own(), self.adapter_state()
        separate = any(name in store for name in state)
        if separate:
            targets.update(state)
        if set(store.keys()) != set(targets):
            raise ValueError(
                f"Layer '{self.name}' expected the variables "
                f"{list(targets)}. Received: {sorted(store.keys())}."
            )
        for name, variable in targets.items():
            variable.assign(store[name])
        if not separate:
            self.reset_updates()


def in_place_block(plain: type, update: type) -> type:
    """The class of a block with an update.

    It has the name, module and config of the plain class; see
    `class_with_updates`.
    """
    return type(
        plain.__name__,
        (update, plain),
        {"__module__": plain.__module__, "plain_block": plain},
    )


def plain_block_class(layer: keras.Layer) -> type:
    """The class that a block had before its update."""
    return getattr(type(layer), "plain_block", type(layer))
