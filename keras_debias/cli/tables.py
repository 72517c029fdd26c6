"""Reads splits from the files of a command."""

import pathlib
import warnings


def read_split(options, path=None, label_names=None, by_label=None):
    """The split that the arguments of `add_data` and `add_groups` describe.

    Args:
        options: the arguments.
        path: another file with the same columns, or `None`.
        label_names: sequence of strings, labels in their order, or `None`.
        by_label: bool, or `None`: as the arguments say.
    """
    from keras_debias.data.split import Split
    from keras_debias.data.table_file import read_table

    check_by_label(options)
    path = pathlib.Path(options.data if path is None else path)
    groups = tuple(options.groups)
    inputs = options.text or [options.image]
    frame = read_table(path, inputs, [options.label, *groups])
    if options.label in frame:
        if options.regression:
            frame[options.label] = numbers(frame[options.label])
        elif frame[options.label].dtype.kind in "iu":
            # Integers are names of classes here.
            frame[options.label] = frame[options.label].astype(str)
    if by_label is None:
        by_label = options.by_label
    arguments = {
        "groups": groups,
        "label_names": label_names,
        "name": path.name.split(".")[0],
        # Numbers do not divide groups.
        "by_label": by_label and bool(groups) and not options.regression,
        "overlapping": getattr(options, "overlapping", False) and bool(groups),
    }
    with warnings.catch_warnings():
        if options.regression:
            # With --regression, whole numbers are targets.
            warnings.filterwarnings("ignore", "`y` holds whole numbers")
        if options.image:
            return Split.from_image_folder(
                options.image_folder or path.parent,
                frame,
                file=options.image,
                label=options.label,
                image_size=(options.image_size, options.image_size),
                **arguments,
            )
        x = inputs[0] if len(inputs) == 1 else tuple(inputs)
        return Split.from_pandas(frame, x, options.label, **arguments)


def check_by_label(options) -> None:
    """Raises where numbers are to divide groups."""
    if options.regression and getattr(options, "by_label", False):
        raise ValueError(
            "Expected no --by-label with --regression, received both: numbers "
            "do not divide groups"
        )


def numbers(column):
    """A column of a table as floats.

    Raises:
        ValueError: If a value is not a number, or missing.
    """
    import pandas as pd

    found = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = column[found.isna()]
    if len(wrong):
        raise ValueError(
            f"Expected a number in each row of {column.name!r} with "
            f"--regression, received {len(wrong)} of {len(column)} without, "
            f"the first {wrong.iloc[0]!r}"
        )
    return found


def written(path) -> None:
    """Says on the terminal what was written."""
    print(f"Written: {path}")
