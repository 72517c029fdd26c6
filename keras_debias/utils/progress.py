"""A progress bar for work that turns out to take long."""

import time

import keras

# Seconds without a bar: shorter work prints nothing.
PATIENCE = 5.0


def say(text: str) -> None:
    """Prints a line, unless Keras' logs do not go to the screen."""
    if keras.config.is_interactive_logging_enabled():
        print(text)


class Progress:
    """Counts finished steps; draws a bar once `PATIENCE` seconds are over.

    Args:
        title: string, printed above the bar.
        total: int, the number of steps.
        unit: string, the name of one step.
    """

    def __init__(self, title: str, total: int, unit: str):
        self._title = title
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = time.monotonic()
        self._bar: keras.utils.Progbar | None = None

    def add(self, steps: int) -> None:
        """Counts `steps` more steps as finished."""
        self._done += steps
        if self._bar is None:
            waited = time.monotonic() - self._start
            if self._done >= self._total or waited < PATIENCE:
                return
            say(self._title)
            self._bar = keras.utils.Progbar(
                self._total, interval=1.0, unit_name=self._unit
            )
        self._bar.update(self._done)
