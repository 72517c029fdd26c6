"""Progress bars on terminals, and not in files."""

import contextlib
import sys


@contextlib.contextmanager
def bars_on_terminals(quiet: bool = False):
    """Hides Keras' bars where the output is a file or a pipe.

    Args:
        quiet: bool, whether to hide them on terminals too. Defaults to
            `False`.
    """
    import keras

    shown = keras.config.is_interactive_logging_enabled()
    if quiet or not sys.stdout.isatty():
        keras.config.disable_interactive_logging()
    try:
        yield
    finally:
        if shown:
            keras.config.enable_interactive_logging()
