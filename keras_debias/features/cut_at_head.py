"""A classifier cut before its last layer."""

from typing import Any

import keras
from keras import ops


def cut_at_head(network) -> tuple[keras.Model, keras.layers.Dense]:
    """What makes the features of a classifier, and its last layer.

    Returns:
        `(encoder, head)`: a model from the inputs to the features, one row a
        sample, and the `Dense` layer after it. Both are the network's own.

    Raises:
        ValueError: If the network is not functional or sequential, or does
            not end in a `Dense` layer with a bias and without activation.
    """
    head: Any = None
    if getattr(network, "layers", None):
        head = network.layers[-1]
    linear = (
        isinstance(head, keras.layers.Dense)
        and head.use_bias
        and head.activation is keras.activations.linear
    )
    try:
        features = head.input
        if len(features.shape) != 2:
            features = ops.reshape(features, (-1, features.shape[-1]))
        encoder = keras.Model(network.inputs, features)
    except (AttributeError, ValueError, TypeError):
        linear = False
    if not linear:
        raise ValueError(
            "Expected a functional or sequential network that ends in a "
            "`Dense` layer with a bias and without activation. Received: "
            f"{network.name!r}, which ends in {head!r}"
        )
    return encoder, head


def as_compiled(network, like) -> keras.Model:
    """Gives a network the optimizer, loss and preprocessor of another."""
    optimizer = keras.optimizers.serialize(like.optimizer)
    network.compile(keras.optimizers.deserialize(optimizer), loss=like.loss)
    for name in ("preprocessor", "preprocess_samples"):
        if getattr(like, name, None) is not None:
            # Past Keras' tracking: it is the other's layer.
            network.__dict__[name] = getattr(like, name)
    return network
