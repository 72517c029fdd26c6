import abc

import numpy as np

from keras_debias.utils.configurable import Configurable
from keras_debias.utils.numbers import require_seed


class BiasForm(Configurable, abc.ABC):
    """Base class of the forms in which a bias trains.

    A form holds settings and no weights. The bias in training is `b + delta`,
    where `b` is the pretrained one, frozen, or nothing where the model has
    none. A subclass overrides `start` and `delta`.

    Example:

    ```python
    class DoubledBias(kd.adapters.BiasForm):
        def start(self, size, base):
            return {"vector": (np.zeros(size, "float32"), True)}

        def delta(self, variables, base):
            return 2.0 * variables["vector"]


    adapter = kd.adapters.ValueBias(form=DoubledBias())
    ```
    """

    # Whether there is nothing to train without a pretrained bias.
    needs_bias = False

    def check(self, path: str, size: int) -> None:
        """Raises if a bias of `size` entries cannot have this form.

        Args:
            path: string. Path of the layer, for the message.
            size: int. The number of entries of the bias.
        """

    @abc.abstractmethod
    def start(self, size: int, base: np.ndarray | None) -> dict:
        """The weights as training starts.

        Args:
            size: int. The number of entries of the bias.
            base: the pretrained bias, a float32 array of shape `(size,)`, or
                `None`.

        Returns:
            A dict from the name of a weight to `(array, trainable)`.
        """

    @abc.abstractmethod
    def delta(self, variables: dict, base):
        """What is added to the pretrained bias.

        Args:
            variables: dict of the weights by name, as `start` names them.
            base: the pretrained bias, a float32 vector, or `None`.

        Returns:
            A float32 tensor of shape `(size,)`.
        """


class MatrixForm(BiasForm):
    """A form that writes a bias of `n m` entries as an `n x m` matrix."""

    def __init__(self, rank, rows, columns, seed):
        given = {"rank": rank, "rows": rows, "columns": columns}
        for name, value in given.items():
            if value is None and name != "rank":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                valid = False
            else:
                valid = value > 0
            if not valid:
                raise ValueError(
                    f"Expected `{name}` to be a positive integer. "
                    f"Received: {name}={value}"
                )
        require_seed(seed)
        self.rank = rank
        self.rows = rows
        self.columns = columns
        self.seed = seed

    def grid(self, size: int) -> tuple[int, int]:
        """`(n, m)` for a bias: as given, else as square as possible."""
        rows, columns = self.rows, self.columns
        if rows is None and columns is None:
            rows = max(n for n in range(1, int(size**0.5) + 1) if size % n == 0)
        if rows is None:
            rows = size // columns
        if columns is None:
            columns = size // rows
        return rows, columns

    def check(self, path, size):
        rows, columns = self.grid(size)
        if rows * columns != size:
            pairs = [
                f"{n} x {size // n}"
                for n in range(1, int(size**0.5) + 1)
                if size % n == 0
            ]
            raise ValueError(
                f"Expected `rows` times `columns` to be {size}, the size of "
                f"the bias of '{path}'. Received: rows={self.rows}, "
                f"columns={self.columns}. Choose one of: {', '.join(pairs)}."
            )
        if self.rank > min(rows, columns):
            raise ValueError(
                f"Expected `rank` to be at most {min(rows, columns)}, the "
                f"smaller side of the bias of '{path}' as a matrix of {rows} "
                f"x {columns}. Received: rank={self.rank}"
            )

    def random(self, *shape) -> list[np.ndarray]:
        """The same start on every backend: uniform in +-1/sqrt(n)."""
        generator = np.random.default_rng(self.seed)
        limit = 1 / shape[0] ** 0.5
        return generator.uniform(-limit, limit, shape).astype("float32")

    def get_config(self):
        return {
            "rank": self.rank,
            "rows": self.rows,
            "columns": self.columns,
            "seed": self.seed,
        }
