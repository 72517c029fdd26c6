"""Splits out of the files that a command gets."""

import pathlib


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

    path = pathlib.Path(options.data if path is None else path)
    groups = tuple(options.groups)
    frame = read_table(path, options.text, [options.label, *groups])
    if options.label in frame and frame[options.label].dtype.kind in "iu":
        # The names of classes: nobody said what they would index.
        frame[options.label] = frame[options.label].astype(str)
    if by_label is None:
        by_label = options.by_label
    return Split.from_pandas(
        frame,
        options.text[0] if len(options.text) == 1 else tuple(options.text),
        options.label,
        groups,
        label_names,
        name=path.name.split(".")[0],
        by_label=by_label and bool(groups),
        overlapping=getattr(options, "overlapping", False) and bool(groups),
    )


def written(path) -> None:
    """Says on the terminal what was written."""
    print(f"Written: {path}")
