import threading


def require_psutil():
    """Returns the package `psutil`; raises if it is missing."""
    try:
        import psutil
    except ImportError as error:
        raise ImportError(
            "Expected the package `psutil`, which measures the memory of a "
            "run, to be installed. Received: no such package. Install it with "
            '`pip install "keras-debias[compare]"`.'
        ) from error
    return psutil


class PeakMemory:
    """The highest resident memory of the process inside a `with`, in bytes.

    A thread looks every twentieth of a second: shorter peaks are missed.
    """

    def __enter__(self):
        self._process = require_psutil().Process()
        self.bytes = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.05):
            self._look()

    def _look(self):
        self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        self._look()
