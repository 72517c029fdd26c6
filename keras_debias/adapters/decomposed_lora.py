import abc

import numpy as np

from keras_debias.adapters.started_lora import StartedLoRA


class DecomposedLoRA(StartedLoRA):
    """Base class of LoRA that starts from a part of each kernel."""

    @abc.abstractmethod
    def decompose(
        self, path: str, matrix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`(A0, B0)` of a kernel as a float32 matrix, inputs x outputs."""

    def start(self, path, layer, constraint=None):
        return self.decompose(path, self.base_matrix(path, layer, constraint))
