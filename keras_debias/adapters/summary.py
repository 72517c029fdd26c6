import dataclasses
import io
import math

import keras
import rich.console
import rich.table

from keras_debias.adapters.checks import require_model
from keras_debias.adapters.selection import unwrap
from keras_debias.adapters.selection import variable_paths
from keras_debias.layers.adapted_layer import GATES


@dataclasses.dataclass(frozen=True)
class TrainableSummary:
    """What trains in a model: prints as a table.

    Args:
        rows: tuple of `(path, shape, count)`, one for each trainable weight.
        total: int. The number of all weights of the model.
    """

    rows: tuple[tuple[str, tuple[int, ...], int], ...]
    total: int

    @property
    def trainable(self) -> int:
        """The number of trainable weights."""
        return sum(count for _, _, count in self.rows)

    @property
    def share(self) -> float:
        """Trainable weights by all weights."""
        return self.trainable / self.total if self.total else 0.0

    def __str__(self):
        table = rich.table.Table(box=rich.table.box.SIMPLE_HEAD)
        table.add_column("trainable weight", no_wrap=True)
        table.add_column("shape", justify="right", no_wrap=True)
        table.add_column("count", justify="right", no_wrap=True)
        for path, shape, count in self.rows:
            table.add_row(rich.markup.escape(path), str(shape), f"{count:,}")
        text = io.StringIO()
        rich.console.Console(file=text, width=200).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        lines.append(
            f"  {self.trainable:,} of {self.total:,} weights train "
            f"({100 * self.share:.3f} %)"
        )
        return "\n".join(lines).lstrip("\n")


def summary(model: keras.Model) -> TrainableSummary:
    """Lists what trains in a model: paths, shapes, counts and the share.

    Args:
        model: a built `keras.Model`, or a `DebiasedModel` around one.

    Returns:
        A `TrainableSummary`; printing it shows a table.

    Example:

    ```python
    print(kd.adapters.summary(classifier))
    ```
    """
    require_model(model)
    model = unwrap(model)
    rows, total = [], 0
    for path, variable in variable_paths(model).items():
        if variable.name in GATES:
            continue
        shape = tuple(int(s) for s in variable.shape)
        total += math.prod(shape)
        if variable.trainable:
            rows.append((path, shape, math.prod(shape)))
    return TrainableSummary(tuple(rows), total)
