"""Whether a file of the adapters alone would restore a model."""

import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.merge import require_enabled
from keras_debias.adapters.selection import layer_paths


def require_savable(model: keras.Model) -> None:
    """Raises if a file of the adapters could not restore the model."""
    require_enabled(model)
    for path, layer in layer_paths(model).items():
        mine = {
            id(v) for a in adapters_of(layer) for v in a.state(layer).values()
        }
        names = set(getattr(layer, "moved_weights", ()))
        if getattr(layer, "quantization_mode", None) is not None:
            in_floats = {
                v.name for v in layer.variables if id(v) in mine or v.trainable
            }
            if names - in_floats:
                raise ValueError(
                    "Expected weights in floats where they have trained. "
                    f"Received: '{path}', quantized to "
                    f"{layer.quantization_mode} after it trained. Save the "
                    "adapter before `quantize`, or quantize the rest only: "
                    "`model.quantize(..., filters=...)`."
                )
        if not adapters_of(layer):
            continue
        others = [
            v.name
            for v in _keras_internals.own_trainable_variables(layer)
            if (v.trainable or v.name in names) and id(v) not in mine
        ]
        if others:
            raise ValueError(
                "Expected base weights that have not trained beside the "
                f"adapter. Received: '{path}' with {others}, unfrozen since: "
                "no fresh base would fit the folder. Save the `DebiasedModel` "
                "around the network, or `adapters.merge` and save the whole "
                "model."
            )
