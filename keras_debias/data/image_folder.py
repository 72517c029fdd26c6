"""Reads the parts of a `Split` from a folder of images."""

import os
import pathlib

import pandas as pd

from keras_debias.data.checks import IMAGE_FILE
from keras_debias.data.image_files import ImageFiles
from keras_debias.data.images import check_image_size
from keras_debias.data.reading import as_tuple
from keras_debias.data.reading import parts_from_frame
from keras_debias.data.table_file import read_table

FILE, LABEL = "file", "label"
LISTED = 10


def parts_from_folder(
    folder,
    csv,
    file,
    label,
    groups,
    label_names,
    image_size,
    overlapping,
) -> dict:
    """Returns the arguments of `Split` that a folder of images gives."""
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(
            f"Expected `folder` to be a path. Received: folder={folder!r}"
        )
    check_image_size(image_size)
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"Expected `folder` to be a folder. Received: {str(folder)!r}, "
            "which is not a folder"
        )
    groups = as_tuple(groups, "groups")
    if csv is None:
        if file is not None or label is not None or groups:
            raise ValueError(
                "Expected `csv` with `file`, `label` or `groups`, which are "
                f"its columns. Received: csv=None, file={file!r}, "
                f"label={label!r}, groups={groups!r}. Without `csv` the "
                "label of an image is the folder that it lies in."
            )
        frame = _found(folder)
        file = FILE
        label = LABEL if LABEL in frame else None
    else:
        frame, file = _table(csv, file, label, groups)
    parts = parts_from_frame(
        frame, file, label, groups, label_names, None, overlapping
    )
    names = parts["x"]
    paths = [folder / str(name) for name in names]
    missing = [str(n) for n, path in zip(names, paths) if not path.is_file()]
    if missing:
        raise ValueError(
            f"Expected {file!r} to name files in {str(folder)!r}. Received: "
            f"{len(missing)} of {len(paths)} that are not there: "
            f"{missing[:LISTED]}. Names are read as they are, with their "
            "extension and relative to the folder."
        )
    return {**parts, "x": ImageFiles(paths, image_size)}


def _found(folder) -> pd.DataFrame:
    """All images of a folder, or of its subfolders, which are the labels."""
    nested, flat = [], []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            inner = [p for p in path.rglob("*") if _is_image(p)]
            nested += [(path.name, inner) for inner in sorted(inner)]
        elif _is_image(path):
            flat.append(path)
    if nested and flat:
        raise ValueError(
            "Expected images in folders named after their labels, or images "
            f"without folders. Received: {len(flat)} images in "
            f"{str(folder)!r} itself, such as {flat[0].name!r}, and "
            f"{len(nested)} in its folders. Move them, or name files and "
            "labels in a table: `csv=`."
        )
    if not nested and not flat:
        raise ValueError(
            f"Expected images in {str(folder)!r}. Received: none (.png, .jpg, "
            ".gif, .bmp, .webp, .tif)"
        )
    paths = [path for _, path in nested] or flat
    frame = pd.DataFrame({FILE: [str(p.relative_to(folder)) for p in paths]})
    if nested:
        frame[LABEL] = [name for name, _ in nested]
    return frame


def _is_image(path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and bool(IMAGE_FILE.fullmatch(path.name))


def _table(csv, file, label, groups) -> tuple[pd.DataFrame, str]:
    """The table, and the column that names the files."""
    others = [*([] if label is None else [label]), *groups]
    is_frame = isinstance(csv, pd.DataFrame)
    if not is_frame and not isinstance(csv, (str, os.PathLike)):
        raise TypeError(
            "Expected `csv` to be a path, a `pandas.DataFrame` or None. "
            f"Received: {type(csv).__name__}"
        )
    if file is None:
        file = _file_column(csv if is_frame else read_table(csv, [], []))
    return csv if is_frame else read_table(csv, [file], others), file


def _file_column(frame) -> str:
    """The one column that holds names of image files, or raises."""
    found = [
        name
        for name in frame
        if len(frame)
        and frame[name]
        .head(100)
        .map(lambda v: isinstance(v, str) and bool(IMAGE_FILE.fullmatch(v)))
        .all()
    ]
    if len(found) != 1:
        raise ValueError(
            "Expected one column of names of image files. Received: "
            f"{found or 'none'} among {list(frame)}. Name it: `file=`."
        )
    return found[0]
