"""Reads the parts of a `Split` from data frames and `datasets.Dataset`s."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_debias.data.checks import label_values
from keras_debias.data.groups import Groups
from keras_debias.data.labels import check_label_names
from keras_debias.data.labels import match_labels
from keras_debias.data.labels import missing_labels
from keras_debias.data.labels import multi_hot
from keras_debias.data.labels import warn_of_missing_labels
from keras_debias.data.overlapping_groups import OverlappingGroups


def as_tuple(columns: str | Sequence[str], argument: str) -> tuple[str, ...]:
    """Returns column names as a tuple, or raises."""
    if isinstance(columns, str):
        return (columns,)
    names: tuple = tuple(columns) if np.iterable(columns) else (columns,)
    if any(not isinstance(name, str) for name in names):
        raise TypeError(
            f"Expected `{argument}` to be a column name or a tuple of column "
            f"names. Received: {argument}={names!r}"
        )
    return names


def _check_columns(wanted: Sequence[str], present: Sequence[str]) -> None:
    present = list(present)
    absent = [column for column in wanted if column not in present]
    if absent:
        raise ValueError(
            f"The data has no column {absent}. Columns there are: {present}"
        )
    twice = [c for c in dict.fromkeys(wanted) if present.count(c) > 1]
    if twice:
        raise ValueError(
            f"The data has more than one column {twice}: which is meant? "
            f"Columns there are: {present}. Rename or remove one."
        )


def _values(series: pd.Series):
    """Returns a column as an array, or as a list where rows are nested."""
    array = series.to_numpy()
    return array.tolist() if array.dtype == object else array


def parts_from_frame(
    frame: pd.DataFrame,
    x,
    y,
    groups,
    label_names,
    sample_weight,
    overlapping: bool = False,
) -> dict:
    """Returns the arguments of `Split` that a data frame gives."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            "Expected `frame` to be a `pandas.DataFrame`. Received: "
            f"{type(frame).__name__}"
        )
    x_columns = as_tuple(x, "x")
    if not x_columns:
        raise ValueError(
            "Expected `x` to name at least one column. Received: x=(). Columns "
            f"there are: {list(frame.columns)}"
        )
    group_columns = as_tuple(groups, "groups")
    others = [c for c in (y, sample_weight) if c is not None]
    if y is not None and y in x_columns:
        raise ValueError(
            "Expected inputs without the label. Received: "
            f"x={x!r} and y={y!r}, so that the model would read the answer."
        )
    wanted = [*x_columns, *others, *group_columns]
    _check_columns(wanted, list(frame.columns))
    needed = [*x_columns, *([] if sample_weight is None else [sample_weight])]
    frame = with_labels(frame, y, label_names)
    if y is not None and _are_names(frame[y], label_names):
        frame = frame.assign(**{y: frame[y].astype(str)})
    missing = {
        column: int(frame[column].isna().sum())
        for column in dict.fromkeys(needed)
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
    grouped = None
    if columns and overlapping:
        grouped = OverlappingGroups(columns)
    elif columns:
        grouped = Groups.from_columns(columns)
    return {
        "x": parts[0] if isinstance(x, str) else tuple(parts),
        "y": None if y is None else _labels(frame[y]),
        "groups": grouped,
        "label_names": label_names,
        "sample_weight": weight,
    }


def with_labels(frame, y, label_names) -> pd.DataFrame:
    """The rows that have a label; the others are counted in a warning."""
    if y is None or not len(frame):
        return frame
    values, order = label_values(_labels(frame[y]))
    if values.ndim != 1:
        return frame
    missing = missing_labels(values, label_names)
    if not missing.any():
        return frame
    # From here to the caller of `from_pandas` or `from_dataset`.
    warn_of_missing_labels(values, missing, f"the column {y!r}", 6)
    frame = frame[~missing].reset_index(drop=True)
    if order is None and values.dtype.kind == "f":
        rest = values[~missing]
        if (rest == np.round(rest)).all():
            # Integers, which NaN had made floats.
            frame[y] = rest.astype("int64")
    return frame


def _labels(series: pd.Series):
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series
    values = _values(series)
    if isinstance(values, list) and any(map(pd.api.types.is_list_like, values)):
        return values
    return series


def _are_names(labels: pd.Series, label_names) -> bool:
    """Whether integers are names such as 3 and 8, as no index could be."""
    if label_names is None or labels.dtype.kind not in "iu" or labels.empty:
        return False
    names = check_label_names(label_names)
    present = {str(value) for value in labels.unique()}
    return present <= set(names) and int(labels.max()) >= len(names)


def _labels_as_names(labels: pd.Series, label_names):
    """Spells out integer labels, so that groups are named by them."""
    names = list(check_label_names(label_names))
    if labels.dtype == object:
        codes = match_labels(labels.tolist(), names)
        if None in codes:
            return labels  # `Split` says what is wrong with them
        return pd.Categorical.from_codes(codes, names)
    if labels.dtype.kind not in "iu":
        return labels
    if labels.min() < 0 or labels.max() >= len(names):
        return labels  # `Split` says what is wrong with them
    return pd.Categorical.from_codes(labels.to_numpy(), names)


def parts_from_dataset(dataset, x, y, groups, label_names) -> dict:
    """Returns the arguments of `Split` that a `datasets.Dataset` gives."""
    if isinstance(dataset, dict):
        raise TypeError(
            "Expected `dataset` to be one split of a dataset. Received: a "
            f"{type(dataset).__name__} with the splits {list(dataset)}. "
            f"Pass `dataset[{next(iter(dataset), 'train')!r}]`."
        )
    if not all(
        hasattr(dataset, a) for a in ("features", "column_names", "__len__")
    ):
        raise TypeError(
            "Expected `dataset` to be a map-style `datasets.Dataset`. "
            f"Received: {type(dataset).__name__}. Load it without "
            "`streaming=True`."
        )
    x_columns = as_tuple(x, "x")
    group_columns = as_tuple(groups, "groups")
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
        # By name, whatever the order of `label_names`.
        codes = frame[y].fillna(-1).astype(int)
        frame[y] = pd.Series(
            [None if code < 0 else own_names[code] for code in codes],
            dtype=object,
        )
        names = tuple(label_names or own_names)
        return parts_from_frame(frame, x, y, groups, names, None)
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
