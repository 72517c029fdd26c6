import dataclasses
import io
import math
import re

import keras
import rich.console
import rich.table

from keras_debias.adapters.checks import require_model
from keras_debias.adapters.selection import variable_paths
from keras_debias.layers.adapted_layer import GATES
from keras_debias.utils.networks import network_of
from keras_debias.utils.short_repr import ShortRepr

# With more lines than this, weights of the same name and shape share one.
MOST_LINES = 20


@dataclasses.dataclass(frozen=True, repr=False)
class TrainableSummary(ShortRepr):
    """The trainable weights of a model, printed as a table.

    With more than 20 weights, those whose paths differ in numbers only, such
    as those of the layers of a language model, share a line.

    Args:
        rows: tuple of `(path, shape, count)`, one for each trainable weight.
        total: int. The number of all weights of the model.

    Example:

    >>> summary = TrainableSummary((("dense/lora_a", (4, 2), 8),), total=32)
    >>> summary.trainable, summary.share
    (8, 0.25)
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
        lines = self.rows
        if len(lines) > MOST_LINES:
            lines = _merged(lines)
        table.add_column("trainable weight", no_wrap=True)
        table.add_column("shape", justify="right", no_wrap=True)
        table.add_column("count", justify="right", no_wrap=True)
        for path, shape, count in lines:
            table.add_row(rich.markup.escape(path), str(shape), f"{count:,}")
        text = io.StringIO()
        rich.console.Console(file=text, width=200).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        lines.append(
            f"  {self.trainable:,} of {self.total:,} weights train "
            f"({100 * self.share:.3f} %)"
        )
        return "\n".join(lines).lstrip("\n")


def _merged(rows) -> list[tuple]:
    """One row for all paths that differ in numbers only."""
    found = {}
    for path, shape, count in rows:
        found.setdefault((re.sub(r"\d+", "*", path), shape), []).append(
            (path, count)
        )
    return [
        (
            members[0][0] if len(members) == 1 else f"{path} ({len(members)})",
            shape,
            sum(count for _, count in members),
        )
        for (path, shape), members in found.items()
    ]


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
    model = network_of(model)
    rows, total = [], 0
    for path, variable in variable_paths(model).items():
        if variable.name in GATES:
            continue
        shape = tuple(int(s) for s in variable.shape)
        total += math.prod(shape)
        if variable.trainable:
            rows.append((path, shape, math.prod(shape)))
    return TrainableSummary(tuple(rows), total)
