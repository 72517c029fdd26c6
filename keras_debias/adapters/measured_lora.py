import abc

from keras_debias.adapters.sample_data import SampleBatches
from keras_debias.adapters.started_lora import StartedLoRA


class MeasuredLoRA(StartedLoRA):
    """Base class of LoRA whose start is measured on some rows of data.

    `adapters.apply` hands the rows over. The starting factors are saved with
    the adapter, the rows are not.
    """

    needs_data = True
    needs_labels = False

    def __init__(self, rank, batch_size, **settings):
        super().__init__(rank, **settings)
        whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise ValueError(
                "Expected `batch_size` to be a positive integer. Received: "
                f"batch_size={batch_size!r}"
            )
        self.batch_size = batch_size

    def prepare_all(self, model, layers, data) -> list:
        for path, layer in layers.items():
            self.check(path, layer)
            self.check_start(path, layer)
        batches = SampleBatches(model, data, self.batch_size, self.needs_labels)
        measured = self.measure(model, layers, batches)
        return [
            self.factors_from(path, self.base_matrix(path, layer), found)
            for (path, layer), found in zip(layers.items(), measured)
        ]

    def check_start(self, path, layer) -> None:
        """Raises if the layer cannot have such a start."""

    @abc.abstractmethod
    def measure(self, model, layers, batches):
        """Yields one array for each layer, measured on the batches."""

    @abc.abstractmethod
    def factors_from(self, path, matrix, measured) -> tuple:
        """`(A0, B0)` from a kernel as a matrix and what was measured."""

    def get_config(self):
        return {**super().get_config(), "batch_size": self.batch_size}
