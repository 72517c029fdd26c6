"""Groups: which part of a dataset each row belongs to."""

import warnings
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import pandas as pd


def _value_name(value) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return str(value)


def _codes(values, column: str) -> tuple[np.ndarray, list[str]]:
    """Returns one code a row and the names the codes stand for."""
    if isinstance(values, pd.Series) and isinstance(
        values.dtype, pd.CategoricalDtype
    ):
        values = values.array
    if isinstance(values, pd.Categorical):
        codes = np.asarray(values.codes, dtype="int64")
        names = [_value_name(c) for c in values.categories]
    else:
        values = pd.Series(
            values if isinstance(values, pd.Series) else list(values),
            dtype=object,
        ).to_numpy()
        values = _without_floats(values)
        wrong = next(
            (
                v
                for v in values
                if not pd.api.types.is_scalar(v)
                or (isinstance(v, (float, np.floating)) and v == v)
            ),
            None,
        )
        if wrong is not None:
            raise TypeError(
                f"Expected the values of the group column {column!r} to be "
                f"strings, integers or booleans. Received: {wrong!r} (of type "
                f"{type(wrong).__name__}). Turn them into names first, for "
                "instance with `pandas.cut`."
            )
        try:
            codes, found = pd.factorize(values, sort=True)
        except TypeError:  # a mixture of types has no order of its own
            values = np.array(
                [None if pd.isna(v) else _value_name(v) for v in values],
                dtype=object,
            )
            codes, found = pd.factorize(values, sort=True)
        names = [_value_name(value) for value in found]
        if len(set(names)) < len(names):
            # Such as 1 and "1": one name is one group.
            names, merged = np.unique(names, return_inverse=True)
            names = names.tolist()
            codes = np.where(codes < 0, codes, merged[codes])
    if (codes < 0).any():
        # a column may also hold the word "none": one group, not two
        none = names.index("none") if "none" in names else len(names)
        codes = np.where(codes < 0, none, codes)
        names = names if none < len(names) else [*names, "none"]
    _warn_of_spellings(names, column)
    return codes, names


def _without_floats(values):
    """Casts whole floats to integers, which missing values had made floats."""
    floats = [v for v in values if isinstance(v, float)]
    present = [v for v in floats if v == v]
    if len(present) == len(floats) or not all(v.is_integer() for v in present):
        return values
    whole = [
        (int(v) if v == v else None) if isinstance(v, float) else v
        for v in values
    ]
    return np.array(whole, dtype=object)


def _warn_of_spellings(names, column) -> None:
    """Warns of groups whose names differ in case or spaces only."""
    spelled = {}
    for name in names:
        spelled.setdefault(" ".join(name.casefold().split()), []).append(name)
    twice = [group for group in spelled.values() if len(group) > 1]
    if twice:
        warnings.warn(
            f"The group column {column!r} spells one group in several ways, "
            f"which are read as groups of their own: {twice[:10]}. Make them "
            "one with `values.str.strip().str.lower()`, if they are.",
            stacklevel=5,
        )


class Groups:
    """One group a row, and the names of the groups.

    Args:
        ids: int array of shape `(n,)`, the group of each row: an index
            into `names`.
        names: sequence of strings, one a group, each only once. A name that
            no row uses is a declared, empty group.

    Raises:
        ValueError: If an id has no name, or a name occurs twice.
        TypeError: If `ids` are not integers.

    Example:

    >>> groups = Groups([0, 1, 1], ["water", "land"])
    >>> groups.counts()
    {'water': 1, 'land': 2}
    """

    __slots__ = ("ids", "names")

    ids: np.ndarray
    names: tuple[str, ...]

    def __init__(self, ids: Sequence[int], names: Sequence[str]):
        if (
            isinstance(names, str)
            or not np.iterable(names)
            or any(not isinstance(name, str) for name in names)
        ):
            raise TypeError(
                "Expected `names` to be a sequence of strings, one a group. "
                f"Received: names={names!r}"
            )
        names = tuple(str(name) for name in names)
        ids = np.array(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise TypeError(
                "Expected `ids` to be a 1-D array of integers, one a row. "
                f"Received: ids of shape {ids.shape} and dtype {ids.dtype}. "
                "For values that are not indices, use `Groups.from_columns`."
            )
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(
                "Expected `names` to hold each group name only once. Received "
                f"more than once: {twice}"
            )
        if ids.size and (ids.min() < 0 or ids.max() >= len(names)):
            raise ValueError(
                f"Expected `ids` to be indices into the {len(names)} `names`. "
                f"Received: ids from {ids.min()} to {ids.max()}, "
                f"names={names}"
            )
        object.__setattr__(self, "ids", ids.astype("int32"))
        object.__setattr__(self, "names", names)

    def __setattr__(self, name, value):
        raise AttributeError(
            f"`Groups` is immutable: `{name}` cannot be set. Build a new one."
        )

    def __reduce__(self):
        return (type(self), (self.ids, self.names))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence]) -> "Groups":
        """Crosses several columns into one group a row.

        Only the combinations that occur become groups. Missing values form
        the group "none"; booleans are spelled "yes" and "no".

        Args:
            columns: dict from column name to values: strings, integers or
                booleans, all of one length. The categories of a
                `pandas.Categorical` keep their order.

        Returns:
            A `Groups` with names like `"label=entailment, token=yes"`.

        Raises:
            ValueError: If there is no column or lengths differ.
            TypeError: If a column holds floats or nested values.

        Example:

        >>> Groups.from_columns({"bird": ["sea", "land"], "wet": [True, True]})
        Groups('bird=land, wet=yes': 1, 'bird=sea, wet=yes': 1)
        """
        if not columns:
            raise ValueError(
                "Expected `columns` to name at least one column of values. "
                "Received: columns={}"
            )
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                "All group columns must have one length. Received lengths: "
                f"{lengths}"
            )
        coded = {n: _codes(values, n) for n, values in columns.items()}
        table = np.stack([codes for codes, _ in coded.values()], axis=1)
        combinations, ids = np.unique(table, axis=0, return_inverse=True)
        names = [
            ", ".join(
                f"{column}={spelled[code]}"
                for code, (column, (_, spelled)) in zip(
                    combination, coded.items(), strict=True
                )
            )
            for combination in combinations
        ]
        return cls(ids.reshape(-1), names)

    @classmethod
    def from_values(cls, values: Sequence) -> "Groups":
        """Makes one group of each value of one array.

        Args:
            values: array of shape `(n,)`: strings, which are the group
                names, or integers, which get names like `"group=3"`.

        Returns:
            A `Groups`, its names in sorted order.

        Raises:
            ValueError: If `values` are not 1-D.
            TypeError: If they are floats or nested.

        Example:

        >>> Groups.from_values(["sea", "land", "sea"])
        Groups('land': 1, 'sea': 2)
        """
        if np.ndim(values) != 1:
            raise ValueError(
                "Expected `groups` to be 1-D, one value a row. Received: shape "
                f"{np.shape(values)}. To cross several attributes pass a "
                "dict from name to values."
            )
        codes, names = _codes(values, "groups")
        if not any(isinstance(v, str) for v in values):
            names = [f"group={name}" for name in names]
        return cls(codes, names)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        inside = ", ".join(f"{n!r}: {c}" for n, c in self.counts().items())
        return f"Groups({inside})"

    def counts(self) -> dict[str, int]:
        """Returns the number of rows of each group, by name."""
        counts = np.bincount(self.ids, minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def shares(self) -> dict[str, float]:
        """Returns the fraction of the rows in each group, by name."""
        n = max(len(self), 1)
        return {name: count / n for name, count in self.counts().items()}

    def take(self, indices: Sequence[int]) -> "Groups":
        """Returns the groups of some rows, with the same names.

        Args:
            indices: int array of rows, or boolean mask.

        Returns:
            `Groups` of these rows.
        """
        return Groups(self.ids[np.asarray(indices)], self.names)

    def members(self) -> np.ndarray:
        """Returns which rows are in which group, `(n, groups)` booleans."""
        return self.ids[:, None] == np.arange(len(self.names))

    def row_names(self) -> np.ndarray:
        """Returns the name of the group of each row, an array of strings."""
        return np.asarray(self.names, dtype=object)[self.ids]
