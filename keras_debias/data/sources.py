"""Named public data sets as `Split`s, from a folder or from the hub."""

import os
import pathlib
import re

import numpy as np
import pandas as pd

from keras_debias.data.catalog import SOURCES
from keras_debias.data.catalog import Source
from keras_debias.data.groups import Groups
from keras_debias.data.labels import missing_labels
from keras_debias.data.labels import multi_hot
from keras_debias.data.labels import warn_of_missing_labels
from keras_debias.data.split import Split

FOLDER_VARIABLE = "KERAS_DEBIAS_DATA"
HUB_TIMEOUT = 3.0  # seconds

# the published distractors: what is appended, and to which text
STRESS = {
    "word_overlap": (1, "and true is true"),
    "negation": (1, "and false is not true"),
    "length_mismatch": (0, " ".join(["and true is true"] * 5)),
}


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
            f"{'hub or folder' if source.hub else 'folder only'})"
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
        name: String, one of `names()`.
        split: String, a split of that set.
        folder: Path or None: then `KERAS_DEBIAS_DATA`.

    Returns:
        Boolean.
    """
    _source(name, split)
    path = _path(name, split, folder)
    return path is not None and path.is_file()


def load(
    name: str, split: str, folder: str | os.PathLike | None = None
) -> Split:
    """Loads a named public data set, with its natural groups.

    It is looked for at `folder/NAME/SPLIT.parquet`, with `folder` from the
    argument or the environment variable `KERAS_DEBIAS_DATA`, and otherwise
    on the hub (this needs the extra "hub").

    Args:
        name: String, one of `keras_debias.data.sources.names()`.
        split: String, for instance `"train"`; an unknown one raises with a
            list of those there are.
        folder: Path of a folder of Parquet files, or None.

    Returns:
        A `Split` named `name`.

    Raises:
        ValueError: If the name or the split is unknown, or the set is
            neither in the folder nor on the hub.
        ConnectionError: If the hub does not answer within seconds.

    Example:

    ```python
    train = keras_debias.data.load("snli", "train")
    hans = keras_debias.data.load("hans", "validation")
    ```
    """
    source = _source(name, split)
    path = _path(name, split, folder)
    if path is not None and path.is_file():
        return _from_parquet(path, name, source)
    if folder is not None:
        there = sorted(p.stem for p in path.parent.glob("*.parquet"))
        raise ValueError(
            f"There is no file {path}. Splits of {name!r} in that folder: "
            f"{there}. Leave `folder` out to load from the hub."
        )
    stress = name == "nli_stress"
    hub_split = "validation_matched" if stress else split
    if source.hub is None or hub_split not in source.hub.splits:
        raise ValueError(
            f"The split {split!r} of {name!r} has no public home on the hub. "
            f"Put it at NAME/SPLIT.parquet in a folder (columns: "
            f"{_columns(source)}) and pass `folder=`, or set the environment "
            f"variable {FOLDER_VARIABLE}. Looked at: {path}"
        )
    result = _from_hub(name, hub_split, source)
    return _stress(result, split) if stress else result


def _source(name: str, split: str) -> Source:
    if name not in SOURCES:
        raise ValueError(
            f"`name` must be one of {names()}. Received: name={name!r}"
        )
    source = SOURCES[name]
    if split not in source.splits:
        raise ValueError(
            f"`split` of {name!r} must be one of {source.splits}. Received: "
            f"split={split!r}"
        )
    return source


def _path(name, split, given) -> pathlib.Path | None:
    root = pathlib.Path(given) if given is not None else folder()
    return None if root is None else root / name / f"{split}.parquet"


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


def _from_parquet(path, name: str, source: Source) -> Split:
    frame = pd.read_parquet(path)
    y = None if source.multi_label else source.y
    split = Split.from_pandas(
        frame,
        x=source.x,
        y=y,
        label_names=None if y is None else source.label_names,
        name=name,
    )
    if source.multi_label:
        split = Split(
            split.x,
            multi_hot(frame[source.y].tolist(), source.label_names),
            label_names=source.label_names,
            name=name,
        )
    return _group(split, {column: frame[column] for column in source.groups})


def _from_hub(name: str, split: str, source: Source) -> Split:
    hub = source.hub
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"Loading {name!r} from the hub needs the package `datasets`. "
            "Install it with `pip install keras_debias[hub]`, or pass "
            "`folder=`."
        ) from error
    _check_reachable(name, hub.repository)
    try:
        dataset = datasets.load_dataset(hub.repository, hub.config, split=split)
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(_unreachable(name, hub.repository)) from error
    # Rows without a gold label go before the groups are read.
    if hub.y is not None and hub.y == "label":
        labels = np.asarray(list(dataset[hub.y]))
        missing = missing_labels(labels)
        if missing.any():
            warn_of_missing_labels(
                labels, missing, f"the labels of {name!r}", stacklevel=4
            )
            dataset = dataset.select(np.flatnonzero(~missing))
    result = Split.from_dataset(dataset, x=hub.x, y=hub.y, name=name)
    if hub.y is not None:
        result = result.align_labels(source.label_names)
    columns = {
        ours: list(dataset[theirs])
        for ours, theirs in zip(source.groups, hub.groups, strict=True)
    }
    return _group(result, columns)


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


def _stress(split: Split, kind: str) -> Split:
    """Adds the distracting phrase before the final punctuation."""
    part, phrase = STRESS[kind]
    texts = [list(column) for column in split.x]
    texts[part] = [_before_stop(text, phrase) for text in texts[part]]
    return Split(
        tuple(texts),
        split.y,
        label_names=split.label_names,
        name="nli_stress",
    ).with_label_groups()


def _before_stop(text: str, phrase: str) -> str:
    body, stop = re.fullmatch(r"(.*?)(\s*[.!?]*)", text, re.DOTALL).groups()
    return f"{body} {phrase}{stop}"
