import keras


def network_of(model: keras.Model) -> keras.Model:
    """The network inside a `DebiasedModel`, or the model itself."""
    # Other models may call a part of themselves `model`.
    return model.model if getattr(model, "wraps_network", False) else model
