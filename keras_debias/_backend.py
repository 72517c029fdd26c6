"""The choice of the Keras backend, made before anything imports Keras."""

import importlib.util
import json
import os
import pathlib
import sys

# In the order in which they are tried.
BACKENDS = ("torch", "tensorflow", "jax")


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def configured_backend(environ: dict) -> str | None:
    """The backend in `keras.json` where a user has chosen it, else `None`.

    Keras writes "tensorflow" to that file unasked, so it is not a choice.
    """
    home = environ.get("KERAS_HOME", "~/.keras")
    path = pathlib.Path(home).expanduser() / "keras.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file, or none that Keras would read
        return None
    name = config.get("backend") if isinstance(config, dict) else None
    return name if name in ("torch", "jax") else None


def choose_backend(environ: dict, installed=is_installed) -> str:
    """Returns the name of the backend to use.

    It is `KERAS_BACKEND` if that is set; else `torch` or `jax` if
    `keras.json` names one of them; else torch if it is installed; else the
    backend that is.

    Args:
        environ: Mapping of environment variables.
        installed: function from the name of a package to a boolean.

    Returns:
        A string, the name of the backend.

    Raises:
        ImportError: If the chosen backend, or every backend, is missing.
    """
    name = environ.get("KERAS_BACKEND")
    reason = "KERAS_BACKEND"
    if not name:
        name = configured_backend(environ)
        reason = "keras.json"
    if name:
        if name in BACKENDS and not installed(name):
            raise ImportError(
                f"Expected the backend that {reason} names to be installed. "
                f"Received: {name!r}, which is missing. Install it with "
                f"`{_pip(name)}`, or choose another one with the environment "
                "variable KERAS_BACKEND."
            )
        return name
    for name in BACKENDS:
        if installed(name):
            return name
    raise ImportError(
        f"Expected one of {', '.join(BACKENDS)} to be installed. Received: "
        "none of them. Install PyTorch with "
        f"`{_pip('torch')}`. On a machine without a GPU, install the CPU "
        "build of PyTorch first (pytorch.org/get-started, choose CPU): it "
        "avoids several gigabytes of CUDA libraries."
    )


def _pip(name):
    return f'pip install "keras-debias[{name}]"'


def set_backend():
    """Sets `KERAS_BACKEND`, unless Keras is imported: then it is too late."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = choose_backend(os.environ)
