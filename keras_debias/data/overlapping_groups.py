"""`OverlappingGroups`: a row may be in several groups, or in none."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np


class OverlappingGroups:
    """Which rows are in which groups; a row may be in several, or in none.

    For evaluation only: `keras_debias.evaluate` reports each group and the
    worst one. Methods that train on groups need one group for each row, a
    `Groups`.

    Args:
        columns: dict from the name of a group to booleans of shape `(n,)`,
            whether each row is in it. Zeros and ones count as booleans.

    Raises:
        ValueError: If there is no column, lengths differ, or a name holds the
            character `|`, which separates names in files.
        TypeError: If a column holds anything but booleans.

    Example:

    >>> groups = OverlappingGroups(
    ...     {"female": [True, True, False], "muslim": [False, True, True]}
    ... )
    >>> groups.counts()
    {'female': 2, 'muslim': 2}

    Reference:

    - The identities of CivilComments in [WILDS](
      https://arxiv.org/abs/2012.07421) overlap in this way.
    """

    __slots__ = ("matrix", "names")
    matrix: np.ndarray
    names: tuple[str, ...]

    def __init__(self, columns: Mapping[str, Sequence[bool]]):
        if not isinstance(columns, Mapping) or not columns:
            raise ValueError(
                "Expected `columns` to be a dict from the name of a group to "
                f"one boolean a row. Received: columns={columns!r}"
            )
        arrays = {n: _booleans(n, values) for n, values in columns.items()}
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                "All group columns must have one length. Received lengths: "
                f"{lengths}"
            )
        object.__setattr__(self, "names", tuple(arrays))
        object.__setattr__(self, "matrix", np.stack([*arrays.values()], axis=1))

    def __setattr__(self, name, value):
        raise AttributeError(
            f"`OverlappingGroups` is immutable: `{name}` cannot be set. Build "
            "a new one."
        )

    def __reduce__(self):
        return (type(self), (self._columns(self.matrix),))

    @classmethod
    def crossed(
        cls,
        first: Mapping[str, Sequence[bool]],
        second: Mapping[str, Sequence[bool]] | None = None,
    ) -> "OverlappingGroups":
        """Makes a group of each pair of a first and a second attribute.

        Args:
            first: dict from name to booleans, for instance of labels.
            second: dict from name to booleans, for instance of identities.
                Defaults to `None`: the first alone.

        Returns:
            `OverlappingGroups` with names like `"label=toxic, female"`.

        Raises:
            ValueError: If lengths differ.

        Example:

        >>> labels = {"label=toxic": [True, True, False]}
        >>> OverlappingGroups.crossed(labels, {"young": [True, False, True]})
        OverlappingGroups('label=toxic, young': 1)
        """
        if not second:
            return cls(first)
        one, other = cls(first), cls(second)
        if len(one) != len(other):
            raise ValueError(
                "All group columns must have one length. Received: lengths "
                f"{len(one)} and {len(other)}"
            )
        return cls(
            {
                f"{a}, {b}": one.matrix[:, i] & other.matrix[:, j]
                for i, a in enumerate(one.names)
                for j, b in enumerate(other.names)
            }
        )

    def _columns(self, matrix) -> dict:
        return dict(zip(self.names, matrix.T, strict=True))

    @property
    def ids(self):
        """Raises: a row has no single group."""
        raise ValueError(
            "Expected one group a row, and these groups overlap: "
            f"{self.names}. They can be evaluated, not trained on. Cross the "
            "attributes with `split.with_groups({name: values})`, or choose "
            "one of them."
        )

    def __len__(self) -> int:
        return len(self.matrix)

    def __repr__(self) -> str:
        inside = ", ".join(f"{n!r}: {c}" for n, c in self.counts().items())
        return f"OverlappingGroups({inside})"

    def counts(self) -> dict[str, int]:
        """Returns the number of rows of each group, by name."""
        counts = self.matrix.sum(axis=0).tolist()
        return dict(zip(self.names, counts, strict=True))

    def shares(self) -> dict[str, float]:
        """Returns the fraction of the rows in each group, by name."""
        n = max(len(self), 1)
        return {name: count / n for name, count in self.counts().items()}

    def take(self, indices: Sequence[int]) -> "OverlappingGroups":
        """Returns the groups of some rows, with the same names.

        Args:
            indices: int array of rows, or boolean mask.

        Returns:
            `OverlappingGroups` of these rows.
        """
        return OverlappingGroups(self._columns(self.matrix[indices]))

    def members(self) -> np.ndarray:
        """Returns which rows are in which group, `(n, groups)` booleans."""
        return self.matrix

    def row_names(self) -> np.ndarray:
        """Returns the names of the groups of each row, separated by `|`."""
        return np.array(
            [
                "|".join(n for n, on in zip(self.names, row, strict=True) if on)
                for row in self.matrix
            ],
            dtype=object,
        )


def _booleans(name, values) -> np.ndarray:
    if not isinstance(name, str) or "|" in name or not name.strip():
        raise ValueError(
            "The names of overlapping groups must be non-empty strings "
            f"without the sign '|'. Received: {name!r}"
        )
    array = np.asarray(values)
    if array.dtype == object and all(
        isinstance(v, (bool, np.bool_)) for v in array
    ):
        array = array.astype(bool)
    whole = array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
    if array.ndim != 1 or not (array.dtype == bool or whole):
        raise TypeError(
            f"The overlapping group {name!r} must be a 1-D array of booleans, "
            "whether each row is in it. Received: shape "
            f"{array.shape}, dtype {array.dtype}. A column of several values "
            "is a partition: pass it as `groups={name: values}`."
        )
    return array.astype(bool)
