"""Encoders: a model cut where its features are."""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_debias.features.cut_at_head import cut_at_head
from keras_debias.utils.networks import network_of


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A model from preprocessed inputs to one vector a row.

    Attributes:
        model: `keras.Model`; its output has shape `(n, width)`.
        preprocess: function of raw inputs to the model's, or `None`.
        name: string, for errors.
        description: string; differs where equal weights give other features.
    """

    model: keras.Model
    preprocess: Callable | None
    name: str
    description: str


def pooled_encoder(model: keras.Model) -> Encoder:
    """Cuts a model where its features are.

    Args:
        model: a KerasHub task or backbone, a `DebiasedModel`, or any other
            model that ends in a `Dense` layer.

    Returns:
        An `Encoder`.

    Raises:
        ValueError: If the model has no place to cut.
    """
    import keras_hub

    network = network_of(model)
    backbone = network
    if not isinstance(network, keras_hub.models.Backbone):
        backbone = getattr(network, "backbone", None)
    if isinstance(backbone, keras_hub.models.Backbone):
        pooled = keras.Model(backbone.input, _pooled(backbone))
        preprocess = _preprocess(network)
        description = f"{type(backbone).__name__} {_length(network)}"
        return Encoder(pooled, preprocess, network.name, description)
    try:
        encoder, _ = cut_at_head(network)
    except ValueError as error:
        raise ValueError(
            "Expected a model with features: a KerasHub task or backbone, or "
            "a functional or sequential model that ends in a `Dense` layer. "
            f"Received: {network.name!r}. Pass a function of a split to a "
            "float array of shape (n, width) instead."
        ) from error
    if len(encoder.inputs) == 1:
        # One input is fed by itself, not as a list.
        encoder = keras.Model(encoder.inputs[0], encoder.outputs[0])
    return Encoder(
        encoder,
        getattr(network, "preprocess_samples", None)
        if getattr(network, "preprocessor", None) is not None
        else None,
        network.name,
        "inputs of the last layer",
    )


def _pooled(backbone):
    """The mean of the last hidden states, without padding."""
    outputs = backbone.output
    if isinstance(outputs, dict):
        names = ("sequence_output", "decoder_sequence_output")
        found = [outputs[name] for name in names if name in outputs]
        if not found:
            raise ValueError(
                "Expected a backbone with one output, or with "
                f"`sequence_output`. Received: the outputs {list(outputs)}. "
                "Pass a function of a split to a float array of shape (n, "
                "width) instead."
            )
        outputs = found[0]
    outputs = ops.cast(outputs, "float32")
    if len(outputs.shape) == 2:
        return outputs
    inputs = backbone.input if isinstance(backbone.input, dict) else {}
    mask = inputs.get("padding_mask", inputs.get("decoder_padding_mask"))
    if len(outputs.shape) == 4:
        last = getattr(backbone, "data_format", "channels_last")
        axes = (1, 2) if last == "channels_last" else (2, 3)
        return ops.mean(outputs, axis=axes)
    if mask is None:
        return ops.mean(outputs, axis=1)
    weights = ops.expand_dims(ops.cast(mask, "float32"), -1)
    total = ops.sum(outputs * weights, axis=1)
    return total / ops.maximum(ops.sum(weights, axis=1), 1.0)


def _length(network):
    preprocessor = getattr(network, "preprocessor", None)
    return getattr(preprocessor, "sequence_length", None)


def _preprocess(network):
    """Raw texts or images to the backbone's inputs, or `None`."""
    preprocessor = getattr(network, "preprocessor", None)
    if preprocessor is None:
        return None
    if hasattr(preprocessor, "generate_preprocess"):
        # Of a language model: without the shift to next tokens.
        return preprocessor.generate_preprocess
    return preprocessor
