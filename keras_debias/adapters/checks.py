"""Checks of arguments that several functions take."""

import os
import pathlib
import typing

import keras


def require_model(model) -> None:
    """Raises unless an argument is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected `model` to be a `keras.Model`. Received: "
            f"model={model!r} of type {type(model).__name__}"
        )


def require_bool(name: str, value) -> None:
    """Raises unless an argument is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(
            f"Expected `{name}` to be True or False. Received: {name}={value!r}"
        )


def refuse_merge(what: str) -> typing.NoReturn:
    """Raises for an adapter that does not change a kernel."""
    raise ValueError(
        f"Expected adapters that merge into a kernel. Received: {what}. "
        "Keep the adapter: `adapters.save` it, or save the `DebiasedModel` "
        "around the network. `IA3` and low-rank adapters merge."
    )


def check_context(model, length: int) -> None:
    """Raises if `length` is more than a model reads at once."""
    backbone = getattr(model, "backbone", model)
    context = getattr(backbone, "max_sequence_length", None)
    if isinstance(context, int) and length > context:
        raise ValueError(
            f"Expected `length` to be at most {context}, the tokens that the "
            f"model reads at once. Received: length={length}"
        )


def as_path(folder) -> pathlib.Path:
    """The argument `folder` as a path."""
    if not isinstance(folder, (str, os.PathLike)) or not str(folder):
        raise TypeError(
            f"Expected `folder` to be a path. Received: folder={folder!r}"
        )
    if "\0" in str(folder):
        raise ValueError(
            f"Expected `folder` to be a path. Received: folder={folder!r}, "
            "which has a null character"
        )
    return pathlib.Path(folder)
