"""The folder of a comparison: one configuration, one file a run."""

import dataclasses
import hashlib
import json
import pathlib
import re
import warnings

import numpy as np
import pandas as pd

from keras_debias.comparison.fingerprint import digest
from keras_debias.comparison.run import Run
from keras_debias.evaluation.score_frame import MIN_GROUP_SIZE
from keras_debias.evaluation.score_frame import Settings
from keras_debias.evaluation.score_frame import score_frame
from keras_debias.evaluation.scores import Scores
from keras_debias.metrics.get import REGRESSION
from keras_debias.metrics.get import get
from keras_debias.metrics.metric_data import MetricData
from keras_debias.utils.files import atomic_write
from keras_debias.utils.files import read_regular

CONFIGURATION = "comparison.json"
SLUG = 40  # characters of a name in a file's name
TOLERANCE = 1e-9
JSON_LIMIT = 2**26  # bytes
FIGURES = (
    *("n", "accuracy", "worst_group", "worst_group_accuracy", "gap"),
    "weighted_f1",
)
COLUMNS = ("split", "row", "label", "prediction", "group")
# What reading a file that was altered may raise.
UNREADABLE = (
    *(AttributeError, IndexError, KeyError, OSError, TypeError, ValueError),
    *(EOFError, OverflowError, RecursionError, UnicodeError),
    *(pd.errors.ParserError, pd.errors.EmptyDataError),
)


class RunFolder:
    """Finished runs on disk, written atomically.

    A run is defined by the contents of its files, not by their names: a method
    and a seed, settings, and predictions from which the scores are computed
    again. A run that cannot be read, or does not agree with its predictions or
    its checksum, is left out with a warning.

    Args:
        path: path of the folder, or `None`: then nothing is saved.
    """

    def __init__(self, path):
        self.path = None if path is None else pathlib.Path(path)
        self._warned = set()
        self._contents = {}

    def register(
        self, configuration: dict, methods: dict, min_group_size: int
    ) -> None:
        """Checks that the folder belongs to this comparison, or assigns it.

        Raises:
            ValueError: If it holds another comparison, or a method of one
                of these names with other settings or another
                `min_group_size`; nothing is changed.
        """
        if self.path is None:
            return
        file = self.path / CONFIGURATION
        if not file.exists():
            if self.path.exists() and not self.path.is_dir():
                raise ValueError(
                    "Expected `folder` to be a folder, or a new path. "
                    f"Received: folder={str(self.path)!r}, which is a file"
                )
            if self.path.exists() and any(self.path.glob("*.json")):
                raise ValueError(
                    f"Expected a folder of a comparison, with {CONFIGURATION}"
                    f", or an empty one. Received: folder={str(self.path)!r}, "
                    "which holds other JSON files. Name another folder."
                )
            known = []
        else:
            old, known = self._configuration()
            differing = sorted(
                key
                for key in {*old, *configuration}
                if old.get(key) != configuration.get(key)
            )
            if differing:
                raise ValueError(
                    "Expected the configuration that the folder's results "
                    f"were made with. Received: folder={str(self.path)!r}, "
                    f"whose comparison differs in {differing}. Name another "
                    "folder, or remove this one."
                )
        for name, _, values, _ in self._finished():
            if methods.get(name, values["settings"]) != values["settings"]:
                raise ValueError(
                    f"Expected the settings of the method {name!r} that the "
                    f"folder's results were made with. Received: folder="
                    f"{str(self.path)!r} and others. Give the method another "
                    "name, or remove its results."
                )
            size = values.get("min_group_size", MIN_GROUP_SIZE)
            if name in methods and size != min_group_size:
                raise ValueError(
                    f"Expected `min_group_size={size}`, with which the "
                    "folder's results were scored. Received: folder="
                    f"{str(self.path)!r}, min_group_size={min_group_size}. "
                    "Name another folder."
                )
        content = {
            "configuration": configuration,
            # In order; another process may be at work on other methods.
            "methods": list(dict.fromkeys([*known, *methods])),
        }
        self._write(file, content)

    def methods(self) -> list[str]:
        """The names of all methods, in the order they came."""
        _, names = self._configuration()
        finished = [name for name, *_ in self._finished()]
        return list(dict.fromkeys([*names, *finished]))

    def configuration(self) -> dict:
        return self._configuration()[0]

    def _configuration(self) -> tuple[dict, list[str]]:
        file = self.path / CONFIGURATION
        if not file.exists():
            raise ValueError(
                f"Expected a folder that `kd.compare` made, with a file "
                f"{CONFIGURATION}. Received: folder={str(self.path)!r}"
            )
        try:
            content = json.loads(read_regular(file, JSON_LIMIT))
            configuration, names = content["configuration"], content["methods"]
            known = isinstance(configuration, dict) and isinstance(names, list)
            if not known or not all(isinstance(name, str) for name in names):
                raise ValueError("it holds something else")
        except UNREADABLE as error:
            raise ValueError(
                f"Expected a file {CONFIGURATION} that `kd.compare` wrote. "
                f"Received: {str(file)!r}, which cannot be read: "
                f"{type(error).__name__}: {error}. Name another folder."
            ) from error
        return configuration, names

    def _finished(self) -> list[tuple]:
        """Name, seed, content and predictions' path of each run there is."""
        found = []
        for file in sorted(self.path.glob("*-seed*.json")):
            try:
                values = self._content(file)
                name, seed = values["method"], values["seed"]
                is_valid = isinstance(name, str) and type(seed) is int
                if not is_valid or not isinstance(values["settings"], dict):
                    raise ValueError("it holds something else")
            except UNREADABLE as error:
                self._warn(file, f"{type(error).__name__}: {error}")
                continue
            found.append((name, seed, values, _predictions_of(file)))
        return found

    def _content(self, file) -> dict:
        """The content of a run's file, read once unless the file changes."""
        status = file.stat()
        version = status.st_ino, status.st_mtime_ns, status.st_size
        if self._contents.get(file, (None, None))[0] != version:
            content = json.loads(read_regular(file, JSON_LIMIT))
            self._contents[file] = version, content
        return self._contents[file][1]

    def _warn(self, file, reason) -> None:
        if file in self._warned:
            return
        self._warned.add(file)
        warnings.warn(
            f"The run in {str(file)!r} is left out and made again where "
            f"`kd.compare` needs it: {reason}",
            stacklevel=4,
        )

    def _stem(self, method, seed) -> str:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", method).strip("_")
        # Two names may differ in signs only, or after many letters.
        return f"{plain[:SLUG]}-{digest(method)}-seed{seed}"

    def read(self, method, seed, train) -> Run | None:
        """A finished run, or `None`.

        Raises:
            ValueError: If it was trained on other data.
        """
        if self.path is None:
            return None
        for name, number, values, predictions in self._finished():
            if (name, number) != (method, seed):
                continue
            file = predictions.with_name(
                predictions.name.removesuffix(".csv.gz") + ".json"
            )
            if not predictions.is_file():
                continue  # it has not finished
            try:
                run = _checked_run(values, predictions)
            except UNREADABLE as error:
                self._warn(file, f"{type(error).__name__}: {error}")
                continue
            if train is not None and values.get("train") != train:
                raise ValueError(
                    f"Expected the training data of seed {seed} that the "
                    f"folder's results were made with. Received: folder="
                    f"{str(self.path)!r} and other rows. Name another folder."
                )
            return run
        return None

    def write(self, run: Run, train: str | None) -> None:
        if self.path is None:
            return
        stem = self._stem(run.method, run.seed)
        # The JSON last: a run without it has not finished.
        predictions = self.path / f"{stem}.csv.gz"
        (self.path / f"{stem}.json").unlink(missing_ok=True)
        run.scores.save_predictions(predictions)
        content = {**run.to_dict(), "train": train}
        content["checksum"] = _checksum(content, predictions)
        self._write(self.path / f"{stem}.json", content)
        (self.path / f"{stem}.error.txt").unlink(missing_ok=True)

    def model_path(self, method, seed) -> pathlib.Path:
        return self.path / f"{self._stem(method, seed)}.keras"

    def write_model(self, method, seed, model) -> None:
        """Saves the trained model of a run atomically."""
        with atomic_write(self.model_path(method, seed)) as temporary:
            model.save(temporary)

    def models(self) -> list[tuple[str, int]]:
        """Method and seed of each finished run whose model is there."""
        if self.path is None or not self.path.is_dir():
            return []
        return [
            (name, seed)
            for name, seed, *_ in self._finished()
            if self.model_path(name, seed).is_file()
        ]

    def write_error(self, method, seed, text) -> None:
        if self.path is None:
            return
        file = self.path / f"{self._stem(method, seed)}.error.txt"
        with atomic_write(file) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def errors(self, methods) -> dict:
        """Broken runs: dict from (method, seed) to the text of the error."""
        found = {}
        for method in methods:
            prefix = self._stem(method, "")
            for file in sorted(self.path.glob(f"{prefix}*.error.txt")):
                seed = file.name.removeprefix(prefix).removesuffix(".error.txt")
                if seed.isdecimal() and file.is_file():
                    found[method, int(seed)] = file.read_text(
                        encoding="utf-8", errors="replace"
                    )
        return found

    def seeds(self, methods) -> list[int]:
        """All seeds of which some run has finished, sorted."""
        return sorted({s for n, s, *_ in self._finished() if n in set(methods)})

    def _write(self, file, content):
        with atomic_write(file) as temporary:
            temporary.write_text(
                json.dumps(content, indent=1) + "\n", encoding="utf-8"
            )


def _predictions_of(file: pathlib.Path) -> pathlib.Path:
    return file.with_name(file.name.removesuffix(".json") + ".csv.gz")


def _checksum(content: dict, predictions: pathlib.Path) -> str:
    """A checksum of the two files of a run."""
    rest = {k: v for k, v in content.items() if k != "checksum"}
    text = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)
    found = hashlib.sha256(text.encode())
    found.update(predictions.read_bytes())
    return found.hexdigest()


def _checked_run(values: dict, predictions: pathlib.Path) -> Run:
    """The run of two files, its scores computed from the predictions."""
    if values.get("checksum") != _checksum(values, predictions):
        raise ValueError("its files are not those that were written (checksum)")
    run = Run.from_dict(values)
    frame = pd.read_csv(
        predictions,
        dtype={"split": str, "label": str, "prediction": str, "group": str},
        # Labels such as "None" or "" are labels.
        keep_default_na=False,
        na_values={"row": [""], "weight": [""]},
    )
    if not set(COLUMNS) <= set(frame):
        raise ValueError(f"its predictions have the columns {list(frame)}")
    if list(dict.fromkeys(frame["split"])) != list(run.scores.names):
        raise ValueError("its predictions are of other splits")
    splits = [_recomputed(split, frame, run) for split in run.scores]
    ungrouped = [split.name for split in splits if not split.groups]
    frame.loc[frame["split"].isin(ungrouped), "group"] = None
    scores = Scores(splits, frame, run.scores.confidence)
    return dataclasses.replace(run, scores=scores)


def _recomputed(split, frame, run):
    """The scores of one split, from its predictions.

    Raises:
        ValueError: If the file says something else.
    """
    frame = frame[frame["split"] == split.name]
    if split.kind in ("regression", "generation"):
        return _checked_metrics(split, frame)
    names = [group.name for group in split.groups]
    members = None
    if names:
        members = _members(frame["group"].to_numpy(dtype=object), names)
    # Where rows have several labels, F1 does not follow from their names.
    several = (
        frame["label"].str.contains("|", regex=False).any()
        or (frame["label"] == "").any()
    )
    confidence = run.scores.confidence
    found = score_frame(
        frame,
        names,
        members,
        Settings(
            min_group_size=run.min_group_size,
            bootstrap=0 if confidence is None else run.bootstrap,
            confidence=0.95 if confidence is None else confidence,
        ),
    )
    if several:
        found = dataclasses.replace(
            found,
            weighted_f1=split.weighted_f1,
            weighted_f1_interval=split.weighted_f1_interval,
        )
    pairs = [(f, getattr(split, f), getattr(found, f)) for f in FIGURES]
    for old, new in zip(split.groups, found.groups, strict=True):
        pairs += [
            (f"{f} of {old.name}", getattr(old, f), getattr(new, f))
            for f in ("n", "accuracy")
        ]
    for name, old, new in pairs:
        if not _agree(old, new):
            raise ValueError(
                f"its predictions on {split.name!r} do not agree with its "
                f"scores: {name} is {old!r}, and {new!r} by the predictions"
            )
    return dataclasses.replace(
        found,
        notes=split.notes or found.notes,
        kind=split.kind,
        # They may need more than predictions; the checksum covers them.
        metrics=split.metrics,
        train_weighted_accuracy=split.train_weighted_accuracy,
    )


def _checked_metrics(split, frame):
    """The scores of numbers or answers, if the predictions say the same.

    Raises:
        ValueError: If they say something else.
    """
    if len(frame) != split.n:
        raise ValueError(
            f"its predictions on {split.name!r} have {len(frame)} rows, and "
            f"its scores {split.n}"
        )
    numbers = split.kind == "regression"
    known = REGRESSION if numbers else ("exact_match", "token_f1")
    data = MetricData(
        split.kind,
        *(
            frame[column].to_numpy("float64" if numbers else object)
            for column in ("label", "prediction")
        ),
    )
    weight = None
    if "weight" in frame and frame["weight"].notna().all():
        weight = frame["weight"].to_numpy("float64")
    for name in set(known) & set(split.metrics):
        old, new = split.metrics[name].value, get(name).value(data, weight)
        if old is not None and abs(old - new) > 1e-6 * max(abs(old), 1):
            raise ValueError(
                f"its predictions on {split.name!r} do not agree with its "
                f"scores: {name} is {old!r}, and {new!r} by the predictions"
            )
    return split


def _members(groups: np.ndarray, names) -> np.ndarray:
    """Which rows are in which group, from the names in the file."""
    index = {name: i for i, name in enumerate(names)}
    members = np.zeros((len(groups), len(names)), dtype=bool)
    for row, text in enumerate(groups):
        if text in index:
            members[row, index[text]] = True
            continue
        for name in filter(None, text.split("|")):
            if name not in index:
                raise ValueError(f"its predictions have a group {name!r}")
            members[row, index[name]] = True
    return members


def _agree(old, new) -> bool:
    if old is None or new is None or isinstance(new, str):
        return old == new
    number = isinstance(old, (int, float)) and not isinstance(old, bool)
    return number and abs(old - new) <= TOLERANCE
