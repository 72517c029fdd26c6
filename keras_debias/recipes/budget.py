import dataclasses

from keras_debias.utils.numbers import is_number


@dataclasses.dataclass(frozen=True)
class Budget:
    """The number of optimizer updates that every method may use.

    All stages of a method share it. A forward pass without an update, such
    as predicting the training rows to find a model's mistakes, is not
    counted; it is in the measured time.

    Attributes:
        epochs: float. Passes over the training rows; a method that draws rows
            gets the same number of updates. Defaults to `None`.
        updates: int. Number of updates. Give exactly one of `epochs` and
            `updates`. Defaults to `None`.
        batch_size: int. Rows of one update. Defaults to `32`.
        checks: int. At how many points of its last stage, evenly spread, a
            method is scored on validation data when a criterion chooses the
            weights. Defaults to `1`: the end, so there is nothing to choose.

    Raises:
        ValueError: If a value is out of range, or not exactly one of
            `epochs` and `updates` is given.

    Example:

    >>> Budget(epochs=2, batch_size=32).updates_for(4000)
    250
    """

    epochs: float | None = None
    updates: int | None = None
    batch_size: int = 32
    checks: int = 1

    def __post_init__(self):
        if (self.epochs is None) == (self.updates is None):
            raise ValueError(
                "Expected one of `epochs` and `updates`. Received: "
                f"epochs={self.epochs}, updates={self.updates}"
            )
        if self.epochs is not None and not (
            is_number(self.epochs) and self.epochs > 0
        ):
            raise ValueError(
                f"Expected `epochs` above 0. Received: epochs={self.epochs!r}"
            )
        for name in ("updates", "batch_size", "checks"):
            value = getattr(self, name)
            if value is None:
                continue
            if not is_number(value) or int(value) != value or value < 1:
                raise ValueError(
                    f"Expected `{name}` to be an integer of at least 1. "
                    f"Received: {name}={value!r}"
                )

    def updates_for(self, rows: int) -> int:
        """The number of updates that the budget allows.

        Args:
            rows: int. Number of training rows.

        Returns:
            An int, at least 1.
        """
        if self.epochs is None:
            return int(self.updates or 0)
        return max(1, round(self.epochs * -(-rows // self.batch_size)))
