import os
import platform

import keras
import numpy as np

from keras_debias.comparison.accelerator import Accelerator
from keras_debias.version import __version__


def environment() -> dict:
    """Versions and machine, to record with a run."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_debias": __version__,
        "numpy": np.__version__,
        "backend": keras.config.backend(),
        "dtype_policy": keras.config.dtype_policy().name,
        "accelerator": Accelerator().name,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
