import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight


class EntriesKernel(KernelForm):
    """Some entries of the kernel train, drawn at random.

    The update is a product: a column of `A` holds the trained value in the row
    of its entry, and a row of `B` holds a one in the column of its entry.

    Args:
        count: int. How many entries train.
        seed: int. Seed of the choice of entries.
    """

    def __init__(self, count, seed):
        super().__init__(count)
        self.seed = seed

    def weights(self, inputs, outputs):
        return {"entries": Weight((self.rank,))}

    def initial(self, layer, start):
        return self.reset(layer)

    def places(self, inputs: int, outputs: int) -> tuple:
        """Rows and columns of the entries."""
        generator = np.random.RandomState(self.seed)
        chosen = generator.choice(inputs * outputs, self.rank, replace=False)
        return np.divmod(np.sort(chosen), outputs)

    def constants(self, inputs, outputs):
        rows, columns = self.places(inputs, outputs)
        a = np.zeros((inputs, self.rank), "float32")
        b = np.zeros((self.rank, outputs), "float32")
        a[rows, np.arange(self.rank)] = 1.0
        b[np.arange(self.rank), columns] = 1.0
        return {
            "entries_a": ops.convert_to_tensor(a),
            "entries_b": ops.convert_to_tensor(b),
        }

    def factors(self, values):
        with _keras_internals.without_autocast():
            return (
                values["entries_a"] * values["entries"],
                ops.convert_to_tensor(values["entries_b"]),
            )

    def reset(self, layer):
        return {"entries": np.zeros(self.rank, "float32")}
