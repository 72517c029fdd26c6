"""`Split`: inputs, labels and groups of one part of a dataset."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_debias.data import csv_file
from keras_debias.data import image_folder
from keras_debias.data import reading
from keras_debias.data import sampling
from keras_debias.data.arguments import check_flag
from keras_debias.data.arguments import check_number
from keras_debias.data.arguments import check_seed
from keras_debias.data.checks import check_inputs
from keras_debias.data.checks import check_labels
from keras_debias.data.checks import check_row_order
from keras_debias.data.checks import check_sample_weight
from keras_debias.data.checks import class_labels
from keras_debias.data.checks import describe_inputs
from keras_debias.data.checks import label_values
from keras_debias.data.checks import num_rows
from keras_debias.data.checks import present_labels
from keras_debias.data.checks import take_rows
from keras_debias.data.checks import warn_of_guesses
from keras_debias.data.duplicates import content_keys
from keras_debias.data.groups import Groups
from keras_debias.data.labels import check_label_names
from keras_debias.data.labels import match_labels
from keras_debias.data.labels import reindex
from keras_debias.data.overlapping_groups import OverlappingGroups


def _as_groups(groups, n: int) -> Groups | OverlappingGroups | None:
    """Returns any kind of groups as `Groups`, or raises."""
    if isinstance(groups, Mapping):
        groups = Groups.from_columns(groups)
    elif groups is not None and not isinstance(
        groups, (Groups, OverlappingGroups)
    ):
        groups = Groups.from_values(groups)
    if groups is not None and len(groups) != n:
        raise ValueError(
            "Expected `groups` to have one value a row of `x`. Received: "
            f"{len(groups)} groups for {n} rows."
        )
    return groups


def _check_grouping(y, groups, by_label, overlapping) -> None:
    check_flag("by_label", by_label)
    check_flag("overlapping", overlapping)
    columns = reading.as_tuple(groups, "groups")
    if (by_label or overlapping) and not columns:
        raise ValueError(
            "Expected columns of groups with `by_label` or `overlapping`. "
            f"Received: groups={groups!r}. For groups of the label alone use "
            "`split.with_label_groups()`."
        )
    if by_label and y is None:
        raise ValueError(
            "Expected a column of labels with `by_label=True`. Received: y=None"
        )
    if by_label and y in columns:
        raise ValueError(
            f"Expected `groups` without the label {y!r}, which "
            f"`by_label=True` adds. Received: groups={groups!r}"
        )


def _crossed_with_label(split):
    """The same rows; each of their groups is divided by label."""
    groups = split.groups
    labels = split.with_label_groups().groups
    if isinstance(groups, OverlappingGroups):
        columns = dict(zip(groups.names, groups.members().T))
        return split.with_label_groups(columns, overlapping=True)
    pairs, ids = np.unique(
        np.stack([labels.ids, groups.ids], axis=1), axis=0, return_inverse=True
    )
    names = [f"{labels.names[a]}, {groups.names[b]}" for a, b in pairs]
    return split.with_groups(Groups(ids.reshape(-1), names))


def _checked_parts(x, y, groups, label_names, sample_weight, name) -> dict:
    """Returns the parts of a split, checked; no label is missing."""
    x, n = check_inputs(x)
    if y is not None:
        y, label_names = check_labels(np.array(y), label_names, n)
    return {
        "x": x,
        "y": y,
        "groups": _as_groups(groups, n),
        "label_names": label_names,
        "sample_weight": check_sample_weight(sample_weight, n, y),
        "name": name,
    }


class Split:
    """Inputs, labels and groups of one part of a dataset. Immutable.

    All parts are checked here, so that a model receives valid data.

    Args:
        x: The inputs, `n` rows: an array, a list of strings, a tuple of
            lists of strings (pairs of texts), an `ImageFiles`, or a dict of
            arrays.
        y: The labels: integers or strings of shape `(n,)`, any other numeric
            array with `n` rows (regression, multi-hot labels), or None.
            Defaults to `None`.
            Strings become int32 indices into `label_names`, booleans into
            `("False", "True")`. Rows whose label says that there is none
            (NaN, None, -1, and the words "", "-", "NA", "nan", "NULL",
            "\\N", "None") are dropped with a warning that counts them.
            Spellings of one label ("Toxic", "toxic ") become one class,
            with a warning.
        groups: None, an array of shape `(n,)` of strings or integers, a dict
            from name to such arrays (crossed into one group a row), a
            `keras_debias.data.Groups`, or, where a row may be in several
            groups, a `keras_debias.data.OverlappingGroups`. Defaults to
            `None`.
        label_names: sequence of strings, the name of each label. Defaults to
            `None`: the categories where `y` is a `pandas.Categorical`, the
            sorted unique labels where it holds other strings, else none. A
            word that is named here is a class, even if it is one of those for
            a missing label.
        sample_weight: float array of shape `(n,)`, or of the shape of `y` for
            labels of tokens. Defaults to `None`.
        name: string, shown in tables. Defaults to `None`.

    Raises:
        ValueError: If lengths differ, there are no rows, labels are out of
            range, negative, unknown, infinite or missing in all rows, or
            weights are negative.
        TypeError: If a part has the wrong type.

    Example:

    >>> split = Split(
    ...     (["A dog runs.", "A cat sits."], ["A pet moves.", "It rains."]),
    ...     ["entailment", "neutral"],
    ...     groups={"animal": ["dog", "cat"]},
    ... )
    >>> split.label_names
    ('entailment', 'neutral')
    >>> split.groups.names
    ('animal=cat', 'animal=dog')
    """

    x: Any
    y: Any
    groups: Any
    label_names: Any
    sample_weight: Any
    name: str | None

    def __init__(
        self,
        x,
        y=None,
        groups=None,
        label_names: Sequence[str] | None = None,
        sample_weight=None,
        name: str | None = None,
    ):
        if name is not None and not isinstance(name, str):
            raise TypeError(
                "Expected `name` to be a string or None. Received: "
                f"name={name!r}"
            )
        check_row_order(x=x, y=y, groups=groups, sample_weight=sample_weight)
        x, n = check_inputs(x)
        present = given = None
        if label_names is not None:
            label_names = check_label_names(label_names)
        if y is not None:
            y, order = label_values(y)
            given, present = present_labels(y, n, label_names, stacklevel=3)
            if label_names is None:
                label_names = order
        warn_of_guesses(x, given, label_names)
        groups = _as_groups(groups, n)
        if present is not None:
            x = take_rows(x, present)
            groups = None if groups is None else groups.take(present)
            if sample_weight is not None:
                sample_weight = np.asarray(sample_weight)
                if len(sample_weight) == n:
                    sample_weight = sample_weight[present]
        self.__dict__.update(
            _checked_parts(x, given, groups, label_names, sample_weight, name)
        )

    def __setattr__(self, name, value):
        raise AttributeError(
            f"`Split` is immutable: `{name}` cannot be set. Make a new one, "
            "for instance with `split.with_groups(...)`."
        )

    def __len__(self) -> int:
        return num_rows(self.x)

    def __repr__(self) -> str:
        parts = [] if self.name is None else [f"name={self.name!r}"]
        parts += [f"n={len(self)}", f"x={describe_inputs(self.x)}"]
        if self.label_names is not None:
            parts.append(f"label_names={self.label_names}")
        if self.groups is not None:
            parts.append(f"groups={len(self.groups.names)}")
        return f"Split({', '.join(parts)})"

    def _replace(self, **changes) -> "Split":
        """Returns a copy with other parts, without warnings."""
        result = Split.__new__(Split)
        parts = {**self.__dict__, **changes}
        result.__dict__.update(_checked_parts(**parts))
        return result

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        x: str | Sequence[str],
        y: str | None = None,
        groups: str | Sequence[str] = (),
        label_names: Sequence[str] | None = None,
        sample_weight: str | None = None,
        name: str | None = None,
        *,
        by_label: bool = False,
        overlapping: bool = False,
    ) -> "Split":
        """Makes a `Split` from the columns of a data frame.

        Args:
            frame: `pandas.DataFrame`.
            x: Column name, or tuple of column names: pairs of texts.
            y: Column name. Defaults to `None`: there are no labels.
            groups: Column name or tuple of column names, crossed. Defaults to
                `()`.
            label_names: See `Split`. Defaults to `None`.
            sample_weight: Column name. Defaults to `None`.
            name: string. Defaults to `None`.
            by_label: bool. If True, the groups are each label with each
                of the groups of the columns, such as `"label=toxic,
                gender=female"`. Defaults to `False`.
            overlapping: bool. If True, each column of `groups` says with
                booleans, or zeros and ones, whether a row is in the group of
                its name; a row may be in several, or in none. Defaults to
                `False`.

        Returns:
            A `Split`.

        Raises:
            ValueError: If a column is absent or there twice, `x` has
                missing values, or there are no columns of groups for
                `by_label` or `overlapping`.

        Example:

        >>> frame = pd.DataFrame({"text": ["a", "b"], "label": ["no", "yes"]})
        >>> Split.from_pandas(frame, x="text", y="label")
        Split(n=2, x=texts, label_names=('no', 'yes'))
        """
        _check_grouping(y, groups, by_label, overlapping)
        split = cls(
            **reading.parts_from_frame(
                frame, x, y, groups, label_names, sample_weight, overlapping
            ),
            name=name,
        )
        return _crossed_with_label(split) if by_label else split

    @classmethod
    def from_csv(
        cls,
        path,
        x: str | Sequence[str],
        y: str | None = None,
        groups: str | Sequence[str] = (),
        label_names: Sequence[str] | None = None,
        sample_weight: str | None = None,
        name: str | None = None,
        *,
        by_label: bool = False,
        overlapping: bool = False,
        **read_csv_options,
    ) -> "Split":
        """Makes a `Split` from a CSV file.

        In inputs only an empty cell is a missing value: words such as "None"
        or "NA" are text, and so are numbers, unless `dtype` says otherwise.
        A missing group value forms the group "none". For missing labels see
        `Split`.

        Args:
            path: path of the file; `pandas.read_csv` reads it.
            x, y, groups, label_names, sample_weight, name, by_label,
                overlapping: See `from_pandas`, with its defaults.
            **read_csv_options: Passed to `pandas.read_csv`, for instance
                `sep="\\t"`.

        Returns:
            A `Split`. Errors are those of `from_pandas`.

        Raises:
            ValueError: Also if the file has another encoding, lines with too
                many fields, or quotation marks that swallow lines. Its name
                and the option that helps are in the message.

        Example:

        ```python
        split = keras_debias.data.Split.from_csv(
            "pairs.csv", x=("premise", "hypothesis"), y="label"
        )
        # Groups: each label with each gender, "label=toxic, gender=female".
        split = keras_debias.data.Split.from_csv(
            "comments.csv", "comment", "toxic", "gender", by_label=True
        )
        # Groups: each label with each column of zeros and ones.
        split = keras_debias.data.Split.from_csv(
            "comments.csv",
            "comment",
            "toxic",
            ("female", "muslim"),
            by_label=True,
            overlapping=True,
        )
        ```
        """
        texts = reading.as_tuple(x, "x")
        others = reading.as_tuple(groups, "groups")
        others += tuple(c for c in (y, sample_weight) if c is not None)
        options = {**csv_file.TEXT_OPTIONS, **read_csv_options}
        frame = csv_file.read_csv(path, texts, others, options)
        return cls.from_pandas(
            frame,
            x,
            y,
            groups,
            label_names,
            sample_weight,
            name,
            by_label=by_label,
            overlapping=overlapping,
        )

    @classmethod
    def from_image_folder(
        cls,
        folder,
        csv=None,
        *,
        label: str | None = None,
        groups: str | Sequence[str] = (),
        file: str | None = None,
        label_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (224, 224),
        name: str | None = None,
        by_label: bool = False,
        overlapping: bool = False,
    ) -> "Split":
        """Makes a `Split` of the images in a folder.

        Images are read a batch at a time, when they are needed, and resized:
        see `keras_debias.data.ImageFiles`. `fit`, `predict`, `evaluate`,
        `audit`, `recommended` and `compare` take such a split.

        Args:
            folder: path. Without `csv`, the label of an image is the name of
                the folder inside of it that holds the image; images that lie
                in it directly have no label.
            csv: path of a table (CSV, TSV, JSON Lines or Parquet; the
                extension decides), or a `pandas.DataFrame`. Defaults to
                `None`.
            label: Column name in `csv`. Defaults to `None`.
            groups: Column name in `csv` or tuple of column names, crossed.
                Defaults to `()`.
            file: Name of the column in `csv` that names the files, relative
                to `folder`. Defaults to `None`: the one column that holds
                names of image files.
            label_names: See `Split`. Defaults to `None`.
            image_size: tuple of two ints, height and width: the largest
                part of this shape is cut out of the middle and resized.
                Defaults to `(224, 224)`.
            name: string. Defaults to `None`.
            by_label, overlapping: See `from_pandas`. Default to `False`.

        Returns:
            A `Split` whose `x` is an `ImageFiles`, for which `split.x[:5]`
            reads the first five images.

        Raises:
            ValueError: If there is no image, a file is missing, a column is
                absent or holds missing values, or no column or several hold
                names of image files. Errors of `csv` are those of
                `from_csv`.
            TypeError: If an argument has the wrong type.

        Example:

        ```python
        # birds/owl/1.jpg, birds/owl/2.jpg, birds/tit/1.jpg
        split = keras_debias.data.Split.from_image_folder("birds")
        split = keras_debias.data.Split.from_image_folder(
            "photos", "photos.csv", label="bird", groups="place", by_label=True
        )
        ```
        """
        _check_grouping(label, groups, by_label, overlapping)
        split = cls(
            **image_folder.parts_from_folder(
                folder,
                csv,
                file,
                label,
                groups,
                label_names,
                image_size,
                overlapping,
            ),
            name=name,
        )
        return _crossed_with_label(split) if by_label else split

    @classmethod
    def from_dataset(
        cls,
        dataset,
        x: str | Sequence[str],
        y: str | None = None,
        groups: str | Sequence[str] = (),
        label_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> "Split":
        """Makes a `Split` from a `datasets.Dataset`.

        A `ClassLabel` column gives `label_names`; where others are passed,
        labels are mapped by name. Rows with the label -1 (no gold label) are
        dropped with a warning that counts them. A list of `ClassLabel`
        becomes multi-hot labels.

        Args:
            dataset: A `datasets.Dataset`: one split.
            x, y, groups: See `from_pandas`, with its defaults.
            label_names: See `Split`. Defaults to `None`: those of the column.
            name: string. Defaults to `None`.

        Returns:
            A `Split`.

        Raises:
            TypeError: If `dataset` is not one map-style split.
            ValueError: If a column is absent, `x` or `y` have missing
                values, or no row has a gold label.

        Example:

        ```python
        snli = datasets.load_dataset("stanfordnlp/snli", split="train")
        split = keras_debias.data.Split.from_dataset(
            snli, x=("premise", "hypothesis"), y="label"
        )
        ```
        """
        return cls(
            **reading.parts_from_dataset(dataset, x, y, groups, label_names),
            name=name,
        )

    def take(self, indices) -> "Split":
        """Returns the rows `indices`, with the same names.

        Args:
            indices: int array, or boolean mask of shape `(n,)`.

        Returns:
            A `Split`, its rows in the order of `indices`.

        Raises:
            TypeError: If `indices` are neither.

        Example:

        >>> split = Split(["a", "b", "c"], ["no", "yes", "no"])
        >>> split.take([2, 0]).x.tolist()
        ['c', 'a']
        """
        indices = np.asarray(indices)
        if indices.dtype == bool and indices.shape == (len(self),):
            indices = np.flatnonzero(indices)
        elif indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(
                "Expected `indices` to be a 1-D array of integers, or a "
                f"boolean mask with one value a row ({len(self)}). Received: "
                f"shape {indices.shape}, dtype {indices.dtype}"
            )
        weight = self.sample_weight
        return self._replace(
            x=take_rows(self.x, indices),
            y=None if self.y is None else self.y[indices],
            groups=None if self.groups is None else self.groups.take(indices),
            sample_weight=None if weight is None else weight[indices],
        )

    def sample(
        self,
        n: int,
        seed: int = 0,
        balance_groups: bool = False,
        balance_labels: bool = False,
    ) -> "Split":
        """Draws `n` rows without replacement, in random order.

        Args:
            n: int, the number of rows; at most `len(split)`.
            seed: int; the same seed draws the same rows. Defaults to `0`.
            balance_groups: bool, whether all groups get the same number of
                rows, if they have enough. Defaults to `False`.
            balance_labels: bool, the same for the labels. Defaults to
                `False`.

        Returns:
            A `Split` of `n` rows.

        Raises:
            ValueError: If `n` is out of range, both flags are set, or there
                is nothing to balance by.

        Example:

        >>> split = Split(["a", "b", "c", "d"], ["no", "no", "no", "yes"])
        >>> sorted(split.sample(2, balance_labels=True).y.tolist())
        [0, 1]
        """
        sampling.check_size(n, len(self))
        check_seed(seed)
        check_flag("balance_groups", balance_groups)
        check_flag("balance_labels", balance_labels)
        if balance_groups and balance_labels:
            raise ValueError(
                "Only one of `balance_groups` and `balance_labels` can be "
                "set. To balance labels crossed with groups, use "
                "`split.with_label_groups(...)` and `balance_groups=True`."
            )
        if balance_groups and self.groups is None:
            raise ValueError(
                "`balance_groups=True` needs groups, and this split has "
                "none. Use `split.with_groups(...)` first."
            )
        cells = np.zeros(len(self), dtype="int64")
        if balance_groups:
            cells = self.groups.ids
        elif balance_labels:
            cells = class_labels(self, "`balance_labels=True`")
        return self.take(sampling.draw(cells, n, np.random.default_rng(seed)))

    def partition(
        self, fraction: float, seed: int = 0
    ) -> tuple["Split", "Split"]:
        """Divides the rows in two, stratified by label; order is kept.

        Rows with the same inputs go to the same part, so that the parts share
        no inputs.

        Args:
            fraction: float between 0 and 1, the first part's share.
            seed: int; the same seed gives the same parts. Defaults to `0`.

        Returns:
            Tuple of two `Split`s, with `fraction` and the rest of the rows;
            with repeated inputs only nearly so.

        Raises:
            ValueError: If `fraction` would leave one part empty.

        Example:

        >>> split = Split(["a", "b", "c", "d"], ["no", "no", "yes", "yes"])
        >>> first, second = split.partition(0.5)
        >>> first.y.tolist(), second.y.tolist()
        ([0, 1], [0, 1])
        """
        n = len(self)
        check_seed(seed)
        check_number("fraction", fraction)
        if not 0 < fraction < 1 or not 0 < round(fraction * n) < n:
            raise ValueError(
                "Expected `fraction` to be between 0 and 1 and leave at least "
                f"one row in both parts. Received: fraction={fraction} for {n} "
                "rows."
            )
        cells = np.zeros(n, dtype="int64")
        if self.y is not None and self.y.ndim == 1 and self.y.dtype.kind == "i":
            cells = self.y
        first = sampling.stratified_mask(
            cells, fraction, np.random.default_rng(seed), content_keys(self.x)
        )
        if first.all() or not first.any():
            raise ValueError(
                "Expected `fraction` to leave at least one row in both parts, "
                "and rows with the same inputs stay together. Received: "
                f"fraction={fraction} for {n} rows. See "
                "`keras_debias.data.duplicates`."
            )
        return self.take(first), self.take(~first)

    def with_groups(self, groups) -> "Split":
        """Returns the same rows with other groups.

        Args:
            groups: see `Split`; `None` removes them.

        Returns:
            A `Split`.

        Example:

        >>> split = Split(["a", "b"], ["no", "yes"])
        >>> split.with_groups({"place": ["sea", "land"]}).groups.names
        ('place=land', 'place=sea')
        """
        return self._replace(groups=groups)

    def with_label_groups(
        self,
        extra: Mapping[str, Sequence] | None = None,
        *,
        overlapping: bool = False,
    ) -> "Split":
        """Returns the same rows grouped by label and `extra` attributes.

        Args:
            extra: dict from attribute name to one value a row, or a
                `pandas.DataFrame` of such columns. Defaults to `None`: the
                label alone. Groups that the split has are replaced.
            overlapping: bool. If True, `extra` holds booleans for
                attributes of which a row may have several, and the groups are
                each label with each attribute, as in CivilComments. Defaults
                to `False`: all values are crossed into one group a row.

        Returns:
            A `Split` with group names like `"label=neutral, token=no"`.

        Raises:
            ValueError: If the labels are not one class a row.

        Example:

        >>> split = Split(["a", "b"], ["no", "yes"])
        >>> split.with_label_groups({"short": [True, True]}).groups.names
        ('label=no, short=yes', 'label=yes, short=yes')
        """
        y = class_labels(self, "`with_label_groups`")
        names = self.label_names
        if isinstance(extra, pd.DataFrame):
            extra = {name: extra[name] for name in extra.columns}
        if check_flag("overlapping", overlapping):
            names = names or tuple(map(str, range(int(y.max()) + 1)))
            labels = {f"label={n}": y == i for i, n in enumerate(names)}
            return self.with_groups(OverlappingGroups.crossed(labels, extra))
        if names is not None:
            y = pd.Categorical.from_codes(y, list(names))
        return self.with_groups({"label": y, **(extra or {})})

    def align_labels(self, label_names: Sequence[str]) -> "Split":
        """Returns the same rows with labels indexed in another order.

        Case, blanks, hyphens and underscores in names are ignored, and "non"
        is "not".

        Args:
            label_names: sequence of strings that holds every label name of
                this split, in the order wanted.

        Returns:
            A `Split` whose `label_names` are those given.

        Raises:
            ValueError: If a label name of this split is not among them, or it
                has none.

        Example:

        >>> split = Split(["a", "b"], ["no", "yes"])
        >>> split.align_labels(["yes", "no", "maybe"]).y.tolist()
        [1, 0]
        """
        wanted = check_label_names(label_names)
        if self.label_names is None:
            raise ValueError(
                "`align_labels` needs a split with `label_names`, and this "
                f"one has none. Received: label_names={wanted}"
            )
        indices = match_labels(self.label_names, wanted)
        if None in indices or len(set(indices)) != len(indices):
            raise ValueError(
                "Expected every label name of the split to be one of "
                f"`label_names`. Received: label_names={wanted}, but the split "
                f"has {self.label_names}."
            )
        known = [index for index in indices if index is not None]
        y = None if self.y is None else reindex(self.y, known, len(wanted))
        return self._replace(y=y, label_names=wanted)
