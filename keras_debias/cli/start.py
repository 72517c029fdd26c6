"""What the command does before Keras is imported."""

import os
import pathlib
import sys

NAMES = ("keras-debias", "keras-debias-script")
PACKAGE = "keras_debias"


def is_command() -> bool:
    """Whether this process was started as `keras-debias` or with `-m`."""
    if sys.argv[:1] == ["-m"]:
        # The package is imported in search of its `__main__`.
        at = sys.orig_argv.index("-m") if "-m" in sys.orig_argv else -1
        return sys.orig_argv[at + 1 : at + 2] == [PACKAGE]
    return pathlib.Path(sys.argv[0] if sys.argv else "").stem in NAMES


def begin() -> None:
    """Answers help and wrong usage at once, and silences native logs.

    Does nothing in any other process: importing the package has no effect
    on the program that does it.
    """
    if not is_command():
        return
    from keras_debias.cli.main import parse

    options = parse(sys.argv[1:])
    if not options.debug:
        silence()


def silence() -> None:
    """Hides what libraries write past Python, and their Python logs.

    TensorFlow's C++ code logs to the file descriptor, whatever its settings.
    Python keeps the real one, for warnings, errors and progress.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
