"""Finds the bias terms of transformer layers, and their values."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.all_biases import AllBiases
from keras_debias.adapters.all_biases import bias_terms
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.bias_update import BiasSlot
from keras_debias.layers.bias_update import bias_shape
from keras_debias.utils.layer_roles import QUERY_KEY_VALUE
from keras_debias.utils.networks import network_of

OUTPUT = "attention_output"


@dataclasses.dataclass(frozen=True)
class BiasTerm:
    """One bias of one transformer layer.

    Args:
        row: string. The path of the attention layer it belongs to.
        name: string. `"query"`, `"key"`, `"value"`, `"attention_output"`, or
            for the rest of the block the name of its layer there.
        path: string. The path of the layer that has it.
        layer: that layer.
        qkv_slot: int or `None`. For a fused projection, which third of it.
    """

    row: str
    name: str
    path: str
    layer: keras.Layer
    qkv_slot: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.row, self.name

    @property
    def size(self) -> int:
        """The entries of the bias, also of one that is not there."""
        if is_dense(self.layer):
            return BiasSlot(bias_shape(self.layer), self.qkv_slot).size
        return sum(math.prod(v.shape) for v in self.base_variables())

    def base_variables(self) -> list[keras.Variable]:
        """The layer's own bias weights."""
        if is_dense(self.layer):
            bias = stored_bias(self.layer)
            return [] if bias is None else [bias]
        return bias_terms(self.layer)

    def update_roles(self) -> list[str]:
        """The adapters' updates that reach this term."""
        roles = list(getattr(self.layer, "bias_updates", {}))
        if self.qkv_slot is None:
            return roles
        return [r for r in roles if r in (self.name, AllBiases.role)]

    def variables(self) -> list[keras.Variable]:
        """All weights that the term is made of."""
        found = self.base_variables()
        for role in self.update_roles():
            found += self.layer.bias_state(role).values()
        return found

    @property
    def exists(self) -> bool:
        return bool(self.base_variables() or self.update_roles())

    @property
    def trainable(self) -> bool:
        return any(v.trainable for v in self.variables())

    @property
    def has_start(self) -> bool:
        """Whether an adapter trains it, and so knows where it began."""
        starts = getattr(self.layer, "initial_values", {})
        return bool(self.update_roles()) or any(
            v.name in starts for v in self.base_variables()
        )

    def part(self, whole: np.ndarray) -> np.ndarray:
        """What belongs to this term of an array for the layer's bias."""
        if self.qkv_slot is None:
            return np.asarray(whole).reshape(-1)
        slot = BiasSlot(bias_shape(self.layer), self.qkv_slot)
        return np.array(ops.convert_to_numpy(slot.extract(whole)))

    def _base(self, starts) -> np.ndarray:
        arrays = [
            starts[v.name] if v.name in starts else as_array(v)
            for v in self.base_variables()
        ]
        if is_dense(self.layer):
            whole = arrays[0] if arrays else np.zeros(bias_shape(self.layer))
            return self.part(whole)
        return np.concatenate([a.reshape(-1) for a in arrays])

    def start(self) -> np.ndarray:
        """The value before training, as a vector: zeros if injected."""
        return self._base(getattr(self.layer, "initial_values", {}))

    def value(self) -> np.ndarray:
        """The value now, updates included, as a vector."""
        total = self._base({})
        roles = self.update_roles()
        if roles:
            gate = float(as_array(self.layer.bias_gate))
            for role in roles:
                delta = self.layer.bias_delta(role)
                total = total + gate * self.part(ops.convert_to_numpy(delta))
        return total


def find_bias_terms(model: keras.Model) -> list[BiasTerm]:
    """The bias terms of a model, those it does not have included.

    For each attention layer its query, key and value projections and its
    output; with it the other layers of the block around it that have a bias.
    Of two attention layers in one block (T5's decoder) the last has those.
    Biases outside of such blocks, as of embeddings and the head, are no
    terms.

    Args:
        model: a built `keras.Model`, or a `DebiasedModel` around one.

    Returns:
        A list of `BiasTerm`, in the order of the network.

    Raises:
        ValueError: If the model has no attention, or its projections cannot
            be told apart.
    """
    model = network_of(model)
    order = _order(model)
    found = sorted(attentions(model), key=lambda a: order[id(a.query.layer)])
    paths = layer_paths(model)
    blocks = {a.path: _parent(a.path) for a in found}
    last = {blocks[a.path]: a.path for a in found}
    projections = {
        id(p.layer)
        for a in found
        for p in (a.query, a.key, a.value, a.output)
        if p is not None
    }
    terms = []
    for attention in found:
        row = attention.path
        for role in QUERY_KEY_VALUE:
            terms.append(_term(row, role, getattr(attention, role)))
        if attention.output is not None:
            terms.append(_term(row, OUTPUT, attention.output))
        block = blocks[row]
        if block in paths and last[block] != row:
            continue
        inside = (block if block in paths else row) + "/"
        others = [
            (path, layer)
            for path, layer in paths.items()
            if path.startswith(inside)
            and id(layer) not in projections
            and (is_dense(layer) or bias_terms(layer))
        ]
        others.sort(key=lambda pair: order[id(pair[1])])
        terms += [
            BiasTerm(row, path[len(inside) :].replace("/", "_"), path, layer)
            for path, layer in others
        ]
    return terms


def _term(row, name, projection):
    layer, qkv_slot = projection.layer, projection.qkv_slot
    if qkv_slot is not None and bias_shape(layer)[-1] % 3:
        raise ValueError(
            "Expected a fused projection whose outputs are thirds. Received: "
            f"'{projection.path}' with the bias shape {bias_shape(layer)}: "
            "its query, key and value cannot be told apart."
        )
    return BiasTerm(row, name, projection.path, layer, qkv_slot)


def _parent(path):
    return path.rsplit("/", 1)[0] if "/" in path else ""


def _order(model) -> dict[int, int]:
    """Where each layer stands in the network, by id."""
    order: dict[int, int] = {}

    def visit(layer):
        for child in _keras_internals.child_layers(layer):
            if id(child) not in order:
                order[id(child)] = len(order)
                visit(child)

    visit(model)
    return order


def chosen_names(terms: list[BiasTerm], names, meaning: str) -> list[str]:
    """The names of terms to look at, in the order of the network.

    Args:
        terms: list of `BiasTerm`, those that can be chosen.
        names: string, several, or `None` for all.
        meaning: string. What can be chosen, for the error.
    """
    present = list(dict.fromkeys(term.name for term in terms))
    if names is None:
        return present
    names = [names] if isinstance(names, str) else list(names)
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise ValueError(
            f"Expected `terms` among the {meaning}: {present}. Received: "
            f"terms={names}, of which {missing} are not."
        )
    return [name for name in present if name in names]
