import keras
import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.adapters.apply import head_variables
from keras_debias.adapters.apply import mark_trained
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.selection import layer_paths
from keras_debias.analysis.find_target_layer import find_target_layer
from keras_debias.data.split import Split
from keras_debias.utils.networks import network_of
from keras_debias.utils.numbers import require_count
from keras_debias.utils.numbers import require_seed


class TargetLayerFreezing(keras.callbacks.Callback):
    """Freezes all layers but one after `after_epoch` epochs.

    Until then, adapters or all weights train, as the model was set up. Then
    the target layer is given or searched for, and the other layers are frozen
    at their present values. A head outside the backbone continues to train.
    The optimizer keeps its number of updates, and its state for the weights
    that continue to train.

    Args:
        after_epoch: int of at least 1. Number of epochs before freezing.
        layer: int or `None`. The layer, counted as for
            `keras_debias.adapters.TargetLayer`. Defaults to `None`: found by
            `keras_debias.analysis.find_target_layer`.
        data: `Split` with labels, for the search. Defaults to `None`:
            `layer` must be given then.
        samples: int. Rows of `data` for the search. Defaults to `20`.
        seed: int. Seed of the choice of rows. Defaults to `0`.

    Attributes:
        layer: int or `None`. The layer, once it is known.
        search: the result of `find_target_layer`, or `None`.

    Raises:
        ValueError: If an argument is out of range; when training begins, if
            there is no such layer; when freezing, if nothing trains in it.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.LoRA(targets="*_output*"))
    model.fit(
        train,
        epochs=3,
        callbacks=[kd.callbacks.TargetLayerFreezing(1, data=train)],
    )
    ```

    Reference:
        Bias-aware PEFT, section 4.2.
    """

    def __init__(
        self,
        after_epoch: int,
        layer: int | None = None,
        data: Split | None = None,
        samples: int = 20,
        seed: int = 0,
    ):
        super().__init__()
        if (
            not isinstance(after_epoch, int)
            or isinstance(after_epoch, bool)
            or after_epoch < 1
        ):
            raise ValueError(
                "Expected `after_epoch` to be an integer of at least 1; to "
                "train one layer from the start, apply a `TargetLayer`. "
                f"Received: after_epoch={after_epoch!r}"
            )
        require_count(samples, "samples")
        require_seed(seed)
        if (layer is None) == (data is None):
            raise ValueError(
                "Expected either `layer`, or `data` to find it with. "
                f"Received: layer={layer}, data={data!r}"
            )
        self.after_epoch = after_epoch
        self.layer = layer
        self.data = data
        self.samples = samples
        self.seed = seed
        self.search = None

    def on_train_begin(self, logs=None):
        if self.data is not None and self.layer != frozen_layer(self.model):
            # Found for another model, or before others trained again.
            self.layer = self.search = None
        found = blocks(network_of(self.model))
        if self.layer is not None and not 0 <= self.layer < len(found):
            raise ValueError(
                f"Expected `layer` from 0 to {len(found) - 1}. "
                f"Received: layer={self.layer}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        # Later where a run begins at a later epoch.
        if epoch < self.after_epoch:
            return
        frozen = frozen_layer(self.model)
        if self.data is not None and frozen is not None:
            # As of a run that goes on.
            self.layer = frozen
        elif frozen is None or frozen != self.layer:
            self._freeze()

    def _freeze(self):
        layer, search = self.layer, self.search
        if layer is None:
            search = find_target_layer(
                self.model, self.data, self.samples, self.seed
            )
            layer = search.layer
        left = left_variables(self.model, layer)
        freeze(self.model, layer, left, over(self.model.optimizer, left))
        self.layer, self.search = layer, search


def frozen_layer(model):
    """The layer that a model is frozen to, `None` if others train (again)."""
    layer, trained = getattr(model, "frozen_to", (None, None))
    return layer if trained == _ids(model.trainable_variables) else None


def left_variables(model, layer) -> list:
    """The variables that train once a model is frozen to a layer.

    Raises:
        ValueError: If none of them is in the layer.
    """
    network = network_of(model)
    block = blocks(network)[layer].layer
    inside = {id(v) for v in block.weights}
    trained = inside | {id(v) for v in head_variables(network)}
    left = [v for v in model.trainable_variables if id(v) in trained]
    if not any(id(v) in inside for v in left):
        paths = {id(x): path for path, x in layer_paths(network).items()}
        raise ValueError(
            "Expected weights that train in the target layer. Received: "
            f"layer={layer} ('{paths[id(block)]}'), in which none "
            f"of the {len(model.trainable_variables)} trainable weights "
            "lies. Adapt all layers before."
        )
    return left


def freeze(model, layer, left, optimizer) -> None:
    """Freezes all variables of a model that are not left."""
    ids = _ids(left)
    for variable in model.trainable_variables:
        variable.trainable = id(variable) in ids
    mark_trained(network_of(model))
    model.optimizer = optimizer
    model.frozen_to = (layer, _ids(model.trainable_variables))
    _keras_internals.drop_compiled_functions(model)
    model.make_train_function()


def _ids(variables) -> tuple:
    return tuple(id(v) for v in variables)


def over(optimizer, variables):
    """The same optimizer, with its state, over fewer variables."""
    state = {
        v.path: np.array(ops.convert_to_numpy(v)) for v in optimizer.variables
    }
    config = keras.saving.serialize_keras_object(optimizer)
    fewer = keras.saving.deserialize_keras_object(config)
    _keras_internals.keep_exclusions(fewer, optimizer)
    fewer.build(variables)
    missing = [v.path for v in fewer.variables if v.path not in state]
    if missing:
        raise ValueError(
            "Expected an optimizer whose state is named by its variables. "
            f"Received: {optimizer.name!r}, without a state for {missing[:3]}"
        )
    for variable in fewer.variables:
        variable.assign(state[variable.path])
    return fewer
