"""The parts of a `Split` out of data frames and `datasets.Dataset`s."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_debias.data.groups import Groups
from keras_debias.data.labels import check_label_names
from keras_debias.data.labels import multi_hot


def _as_tuple(columns: str | Sequence[str], argument: str) -> tuple[str, ...]:
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    if any(not isinstance(column, str) for column in columns):
        raise TypeError(
            f"`{argument}` must be a column name or a tuple of column names. "
            f"Received: {argument}={columns!r}"
        )
    return columns


def _check_columns(wanted: Sequence[str], present: Sequence[str]) -> None:
    absent = [column for column in wanted if column not in present]
    if absent:
        raise ValueError(
            f"The data has no column {absent}. Columns there are: "
            f"{list(present)}"
        )


def _values(series: pd.Series):
    """Returns a column as an array, or as a list where rows are nested."""
    array = series.to_numpy()
    return array.tolist() if array.dtype == object else array


def parts_from_frame(
    frame: pd.DataFrame, x, y, groups, label_names, sample_weight
) -> dict:
    """Returns the arguments of `Split` that a data frame gives."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            "`frame` must be a `pandas.DataFrame`. Received: "
            f"{type(frame).__name__}"
        )
    x_columns = _as_tuple(x, "x")
    if not x_columns:
        raise ValueError(
            "`x` must name at least one column. Received: x=(). Columns "
            f"there are: {list(frame.columns)}"
        )
    group_columns = _as_tuple(groups, "groups")
    others = [c for c in (y, sample_weight) if c is not None]
    wanted = [*x_columns, *others, *group_columns]
    _check_columns(wanted, list(frame.columns))
    missing = {
        column: int(frame[column].isna().sum())
        for column in dict.fromkeys([*x_columns, *others])
    }
    missing = {column: n for column, n in missing.items() if n}
    if missing:
        raise ValueError(
            "The data has missing values: "
            + ", ".join(f"{n} in {column!r}" for column, n in missing.items())
            + f" (of {len(frame)} rows). Drop those rows with "
            "`frame.dropna(subset=...)`, or fill them."
        )
    parts = [_values(frame[column]) for column in x_columns]
    columns = {column: frame[column] for column in group_columns}
    if y in columns and label_names is not None:
        columns[y] = _labels_as_names(frame[y], label_names)
    weight = None if sample_weight is None else frame[sample_weight].to_numpy()
    return {
        "x": parts[0] if isinstance(x, str) else tuple(parts),
        "y": None if y is None else _values(frame[y]),
        "groups": Groups.from_columns(columns) if columns else None,
        "label_names": label_names,
        "sample_weight": weight,
    }


def _labels_as_names(labels: pd.Series, label_names):
    """Spells out integer labels, so that groups are named by them."""
    names = list(check_label_names(label_names))
    if labels.dtype.kind not in "iu":
        return labels
    if labels.min() < 0 or labels.max() >= len(names):
        return labels  # `Split` says what is wrong with them
    return pd.Categorical.from_codes(labels.to_numpy(), names)


def parts_from_dataset(dataset, x, y, groups, label_names) -> dict:
    """Returns the arguments of `Split` that a `datasets.Dataset` gives."""
    if isinstance(dataset, dict):
        raise TypeError(
            "`dataset` must be one split of a dataset. Received: a "
            f"{type(dataset).__name__} with the splits {list(dataset)}. "
            f"Pass `dataset[{next(iter(dataset), 'train')!r}]`."
        )
    if not all(
        hasattr(dataset, a) for a in ("features", "column_names", "__len__")
    ):
        raise TypeError(
            "`dataset` must be a map-style `datasets.Dataset`. Received: "
            f"{type(dataset).__name__}. Load it without `streaming=True`."
        )
    x_columns = _as_tuple(x, "x")
    group_columns = _as_tuple(groups, "groups")
    wanted = list(
        dict.fromkeys([*x_columns, *([] if y is None else [y]), *group_columns])
    )
    _check_columns(wanted, dataset.column_names)
    frame = pd.DataFrame(
        {c: pd.Series(list(dataset[c]), dtype=object) for c in wanted}
    ).infer_objects()
    for column in group_columns:
        names = _class_names(dataset.features[column])
        if column != y and names is not None:
            codes = frame[column].fillna(-1).astype(int)
            frame[column] = pd.Categorical.from_codes(codes, names)
    if y is None:
        return parts_from_frame(frame, x, y, groups, label_names, None)
    feature = dataset.features[y]
    own_names = _class_names(feature)
    if own_names is not None:
        label_names = label_names or own_names
        gold = frame[y] != -1
        if not gold.all():
            if not gold.any():
                raise ValueError(
                    f"No row of the dataset has a gold label: all "
                    f"{len(frame)} values of {y!r} are -1, as in a test split "
                    "whose labels are kept back. Use another split."
                )
            warnings.warn(
                f"Dropped {int((~gold).sum())} of {len(frame)} rows that have "
                f"no gold label (-1 in {y!r}).",
                stacklevel=3,
            )
            frame = frame[gold].reset_index(drop=True)
        return parts_from_frame(frame, x, y, groups, label_names, None)
    inner = _class_names(getattr(feature, "feature", None))
    if inner is None:
        return parts_from_frame(frame, x, y, groups, label_names, None)
    parts = parts_from_frame(frame, x, None, groups, inner, None)
    spelled = [[inner[i] for i in row] for row in frame[y]]
    names = tuple(label_names or inner)
    return {**parts, "y": multi_hot(spelled, names), "label_names": names}


def _class_names(feature) -> list[str] | None:
    """Returns the names of a `ClassLabel` feature, None for any other."""
    names = getattr(feature, "names", None)
    return None if not names else [str(np.asarray(n)) for n in names]
