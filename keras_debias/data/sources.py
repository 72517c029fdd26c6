"""Public datasets as `Split`s, from a folder or from the hub."""

import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from keras_debias.data.catalog import SOURCES
from keras_debias.data.catalog import Source
from keras_debias.data.groups import Groups
from keras_debias.data.images import check_image_size
from keras_debias.data.images import decode_images
from keras_debias.data.labels import match_labels
from keras_debias.data.labels import missing_labels
from keras_debias.data.labels import multi_hot
from keras_debias.data.labels import warn_of_missing_labels
from keras_debias.data.reading import with_labels
from keras_debias.data.split import Split

FOLDER_VARIABLE = "KERAS_DEBIAS_DATA"
HUB_TIMEOUT = 3.0  # seconds


def names() -> tuple[str, ...]:
    """Returns the names of the sets that `load` knows."""
    return tuple(SOURCES)


def describe() -> str:
    """Returns a table of the sets: name, splits, classes, description."""
    width = max(map(len, SOURCES))
    lines = []
    for name, source in SOURCES.items():
        classes = len(source.label_names or ())
        lines.append(
            f"{name:<{width}}  {source.description} ({classes} classes; "
            f"{', '.join(source.splits)}; "
            f"{'downloaded or folder' if _has_home(source) else 'folder'})"
        )
    return "\n".join(lines)


def folder() -> pathlib.Path | None:
    """Returns the folder named by `KERAS_DEBIAS_DATA`, None if unset."""
    value = os.environ.get(FOLDER_VARIABLE)
    return pathlib.Path(value) if value else None


def available(
    name: str, split: str, folder: str | os.PathLike | None = None
) -> bool:
    """Returns whether a set can be loaded from a folder, without the hub.

    Args:
        name: string, one of `names()`.
        split: string, a split of that set.
        folder: path. Defaults to `None`: `KERAS_DEBIAS_DATA`.

    Returns:
        A bool.
    """
    _source(name, split)
    return bool(_files(_path(name, split, folder)))


def load(
    name: str,
    split: str,
    folder: str | os.PathLike | None = None,
    image_size: tuple[int, int] | None = None,
) -> Split:
    """Loads a public dataset by name, with its natural groups.

    The file is `folder/NAME/SPLIT.parquet`, with `folder` from the argument or
    the environment variable `KERAS_DEBIAS_DATA`. A large split may be in
    parts, `SPLIT_0.parquet`, `SPLIT_1.parquet` and so on, which are joined.
    Without a file, the set is loaded from the hub (this needs the extra
    "hub"), or made by the library, as `"sentences"` is.

    Args:
        name: string, one of `keras_debias.data.sources.names()`.
        split: string, for instance `"train"`; an unknown one raises with a
            list of those there are.
        folder: path of a folder of Parquet files. Defaults to `None`.
        image_size: tuple of two ints, height and width, for sets of
            images: the largest part of this shape is cut out of the middle
            and resized. Defaults to `None`: the images keep their size, which
            must be the same for all.

    Returns:
        A `Split` named `name`. Images are uint8 arrays of shape `(n, height,
        width, 3)`.

    Raises:
        ValueError: If the name or the split is unknown, the set is neither
            in the folder nor anywhere else, a part of it is missing, a row
            is not an image, or `image_size` is given for a set of texts.
        ConnectionError: If the hub does not answer within seconds.

    Example:

    ```python
    train = keras_debias.data.load("snli", "train")
    hans = keras_debias.data.load("hans", "validation")
    images = keras_debias.data.load("bar", "train", image_size=(224, 224))
    ```
    """
    source = _source(name, split)
    if image_size is not None:
        if not source.images:
            raise ValueError(
                f"Expected no `image_size` for {name!r}, a set of texts. "
                f"Received: image_size={image_size!r}"
            )
        image_size = check_image_size(image_size)
    path: Any = _path(name, split, folder)
    files = _files(path)
    if files:
        return _from_parquet(files, name, source, image_size)
    if folder is not None:
        there = sorted(p.stem for p in path.parent.glob("*.parquet"))
        raise ValueError(
            f"There is no file {path}. Splits of {name!r} in that folder: "
            f"{there}."
            + (" Leave `folder` out to load it." if _has_home(source) else "")
        )
    if source.loader is not None:
        return source.loader(split, load)
    if source.hub is None or split not in source.hub.splits:
        raise ValueError(
            f"The split {split!r} of {name!r} has no public home on the hub. "
            f"Put it at NAME/SPLIT.parquet in a folder (columns: "
            f"{_columns(source)}) and pass `folder=`, or set the environment "
            f"variable {FOLDER_VARIABLE}. Looked at: {path}"
        )
    return _from_hub(name, split, source, image_size)


def _has_home(source: Source) -> bool:
    return source.hub is not None or source.loader is not None


def _source(name: str, split: str) -> Source:
    if name not in SOURCES:
        raise ValueError(
            f"Expected `name` to be one of {names()}. Received: name={name!r}"
        )
    source = SOURCES[name]
    if split not in source.splits:
        raise ValueError(
            f"Expected `split` of {name!r} to be one of {source.splits}. "
            f"Received: split={split!r}"
        )
    return source


def _path(name, split, given) -> pathlib.Path | None:
    root = pathlib.Path(given) if given is not None else folder()
    return None if root is None else root / name / f"{split}.parquet"


def _files(path: pathlib.Path | None) -> list[pathlib.Path]:
    """The file of a split, or its parts in order; empty if there is none."""
    if path is None:
        return []
    if path.is_file():
        return [path]
    parts = [
        (int(number), part)
        for part in path.parent.glob(f"{path.stem}_*.parquet")
        if (number := part.stem.removeprefix(f"{path.stem}_")).isdecimal()
    ]
    parts.sort()
    numbers = [number for number, _ in parts]
    if numbers != list(range(len(parts))):
        raise ValueError(
            f"Expected the parts of {path.stem!r} in {path.parent} to be "
            f"numbered from 0 without gaps. Received: {numbers}"
        )
    return [part for _, part in parts]


def _columns(source: Source) -> list[str]:
    x = (source.x,) if isinstance(source.x, str) else source.x
    wanted = [*x, *([source.y] if source.y else []), *source.groups]
    return list(dict.fromkeys(wanted))


def _group(split: Split, columns) -> Split:
    """Groups by `columns`; the label spelled and ordered as in the split."""
    if not columns:
        return split
    columns = {
        ("label" if name in ("label", "label_text") else name): values
        for name, values in columns.items()
    }
    if "label" in columns:
        columns["label"] = pd.Categorical.from_codes(
            split.y, list(split.label_names)
        )
    return split.with_groups(Groups.from_columns(columns))


def _from_parquet(
    files: list[pathlib.Path],
    name: str,
    source: Source,
    image_size: tuple[int, int] | None,
) -> Split:
    frame = pd.concat(
        [pd.read_parquet(file) for file in files], ignore_index=True
    )
    return _from_frame(frame, name, source, image_size)


def _from_frame(frame, name, source, image_size) -> Split:
    """A split of a frame that has the columns of the source."""
    if source.images:
        return _from_images(frame, source.x, name, source, image_size)
    if source.prepare is not None:
        frame = source.prepare(frame)
    if source.prompt is not None:
        return _prompts(frame, name, source)
    y = None if source.multi_label else source.y
    labels = y if source.label_names is not None else None
    if labels is not None and labels in frame:
        # Here, because the columns of groups are read from the frame, too.
        frame = with_labels(frame, labels, source.label_names)
    split = Split.from_pandas(
        frame,
        x=source.x,
        y=labels,
        label_names=None if labels is None else source.label_names,
        name=name,
    )
    if y is not None and source.label_names is None:
        # Floats, also if all numbers are whole.
        split = Split(split.x, frame[y].to_numpy("float32")[:, None], name=name)
    if source.multi_label:
        split = Split(
            split.x,
            multi_hot(frame[source.y].tolist(), source.label_names),
            label_names=source.label_names,
            name=name,
        )
    return _group(split, {column: frame[column] for column in source.groups})


def _prompts(frame: pd.DataFrame, name: str, source: Source) -> Split:
    """Prompts and answers, under the names that encoder-decoders take."""
    absent = [c for c in _columns(source) if c not in frame]
    if absent:
        raise ValueError(
            f"Expected the columns {_columns(source)} of {name!r}. Received: "
            f"{list(frame.columns)}, without {absent}"
        )
    frame = frame[frame[source.y].notna()]
    prompts = [
        str(source.prompt).format(**dict(zip(source.x, row)))
        for row in zip(*(frame[column] for column in source.x), strict=True)
    ]
    x = {"encoder_text": prompts, "decoder_text": frame[source.y].tolist()}
    return Split(x, name=name)


def _plain_frame(dataset, source: Source) -> pd.DataFrame:
    """A dataset of the hub with our names of columns, labels spelled out."""
    hub: Any = source.hub
    frame = dataset.to_pandas()
    if hub.y is not None and source.label_names is not None:
        feature = dataset.features[hub.y]
        own = getattr(feature, "names", None)
        if own and None not in match_labels(own, source.label_names):
            frame[hub.y] = [own[i] for i in frame[hub.y]]
        frame = frame.rename(columns={hub.y: "label"})
    return frame


def _from_images(
    frame: pd.DataFrame,
    column: str,
    name: str,
    source: Source,
    image_size: tuple[int, int] | None,
) -> Split:
    absent = [c for c in (column, *_columns(source)[1:]) if c not in frame]
    if absent:
        raise ValueError(
            f"Expected the columns {_columns(source)} of {name!r}. Received: "
            f"{list(frame.columns)}, without {absent}"
        )
    split = Split(
        decode_images(frame[column].tolist(), image_size, name),
        frame[source.y].to_numpy(),
        label_names=source.label_names,
        name=name,
    )
    return _group(split, {column: frame[column] for column in source.groups})


def _from_hub(
    name: str,
    split: str,
    source: Source,
    image_size: tuple[int, int] | None,
) -> Split:
    hub: Any = source.hub
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "Expected the package `datasets`, which loads sets such as "
            f"{name!r} from the hub, to be installed. Received: no such "
            'package. Install it with `pip install "keras-debias[hub]"`, or '
            "pass `folder=`."
        ) from error
    _check_reachable(name, hub.repository)
    try:
        config, part = (hub.of_splits or {}).get(split, (hub.config, split))
        dataset = datasets.load_dataset(hub.repository, config, split=part)
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(_unreachable(name, hub.repository)) from error
    # Rows without a gold label are dropped before the groups are read.
    if hub.y is not None and hub.y == "label":
        labels = np.asarray(list(dataset[hub.y]))
        missing = missing_labels(labels)
        if missing.any():
            warn_of_missing_labels(
                labels, missing, f"the labels of {name!r}", stacklevel=4
            )
            dataset = dataset.select(np.flatnonzero(~missing))
    if source.images:
        names = dataset.features[hub.y].names
        frame = pd.DataFrame({source.y: [names[i] for i in dataset[hub.y]]})
        frame[hub.x] = pd.Series(list(dataset[hub.x]), dtype=object)
        return _from_images(frame, hub.x, name, source, image_size)
    if _is_plain(dataset, source):
        frame = _plain_frame(dataset, source)
        return _from_frame(frame, name, source, image_size)
    result = Split.from_dataset(dataset, x=hub.x, y=hub.y, name=name)
    if hub.y is not None:
        result = result.align_labels(source.label_names or ())
    columns = {
        ours: list(dataset[theirs])
        for ours, theirs in zip(source.groups, hub.groups, strict=True)
    }
    return _group(result, columns)


def _is_plain(dataset, source: Source) -> bool:
    """Whether labels are numbers, texts or lists instead of our names.

    Such a set has the same column names in the folder and on the hub.
    """
    hub: Any = source.hub
    if hub.of_splits or source.prepare or source.prompt:
        return True
    if hub.y is None or source.multi_label:
        return False
    if source.label_names is None:
        return True
    feature = dataset.features[hub.y]
    own = getattr(feature, "names", None)
    if own is None:
        return "int" in str(getattr(feature, "dtype", ""))
    return None in match_labels(own, source.label_names)


def _check_reachable(name: str, repository: str) -> None:
    """Asks the hub for the set once, so that nothing waits for minutes."""
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return  # `datasets` looks into its cache, and fails at once
    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=HUB_TIMEOUT)
    except Exception as error:  # each HTTP client has errors of its own
        raise ConnectionError(_unreachable(name, repository)) from error


def _unreachable(name: str, repository: str) -> str:
    return (
        f"Could not reach the set {name!r}: tried the hub dataset "
        f"{repository!r} (waited {HUB_TIMEOUT:g} seconds), after "
        f"{FOLDER_VARIABLE}={os.environ.get(FOLDER_VARIABLE)!r}. Check the "
        "network, set HF_HUB_OFFLINE=1 to use what is in the cache, or pass "
        "`folder=` with a NAME/SPLIT.parquet file."
    )
