"""The folder of a comparison: one configuration, one file a run."""

import json
import pathlib
import re

import pandas as pd

from keras_debias.comparison.fingerprint import digest
from keras_debias.comparison.run import Run
from keras_debias.utils.files import written_whole

CONFIGURATION = "comparison.json"


class RunFolder:
    """Finished runs on disk; written whole, so that a kill leaves no half.

    Args:
        path: path of the folder, or `None`: then nothing is kept.
    """

    def __init__(self, path):
        self.path = None if path is None else pathlib.Path(path)

    def claim(self, configuration: dict, methods: dict) -> None:
        """Checks that the folder is of this comparison, or makes it so.

        Raises:
            ValueError: If it holds another comparison, or a method of one
                of these names with other settings; nothing is changed.
        """
        if self.path is None:
            return
        file = self.path / CONFIGURATION
        if not file.exists():
            if self.path.exists() and any(self.path.glob("*.json")):
                raise ValueError(
                    f"Expected a folder of a comparison, with {CONFIGURATION}"
                    f", or an empty one. Received: folder={str(self.path)!r}, "
                    "which holds other JSON files. Name another folder."
                )
            known = []
        else:
            kept = json.loads(file.read_text(encoding="utf-8"))
            old, known = kept["configuration"], kept["methods"]
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
        for values in self._finished():
            name = values["method"]
            if methods.get(name, values["settings"]) != values["settings"]:
                raise ValueError(
                    f"Expected the settings of the method {name!r} that the "
                    f"folder's results were made with. Received: folder="
                    f"{str(self.path)!r} and others. Give the method another "
                    "name, or remove its results."
                )
        content = {
            "configuration": configuration,
            # In order; another process may be at work on other methods.
            "methods": list(dict.fromkeys([*known, *methods])),
        }
        self._write(file, content)

    def methods(self) -> list[str]:
        """The names of all methods, in the order they came."""
        file = self.path / CONFIGURATION
        if not file.exists():
            raise ValueError(
                f"Expected a folder that `kd.compare` made, with a file "
                f"{CONFIGURATION}. Received: folder={str(self.path)!r}"
            )
        names = json.loads(file.read_text(encoding="utf-8"))["methods"]
        finished = [values["method"] for values in self._finished()]
        return list(dict.fromkeys([*names, *finished]))

    def _finished(self) -> list[dict]:
        files = sorted(self.path.glob("*-seed*.json"))
        return [json.loads(f.read_text(encoding="utf-8")) for f in files]

    def configuration(self) -> dict:
        file = self.path / CONFIGURATION
        return json.loads(file.read_text(encoding="utf-8"))["configuration"]

    def _stem(self, method, seed) -> str:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", method).strip("_")
        # Two names may differ in signs only.
        return f"{plain}-{digest(method)[:4]}-seed{seed}"

    def read(self, method, seed, train) -> Run | None:
        """A finished run, or `None`.

        Raises:
            ValueError: If it was trained on other data.
        """
        if self.path is None:
            return None
        stem = self._stem(method, seed)
        file = self.path / f"{stem}.json"
        predictions = self.path / f"{stem}.csv.gz"
        if not file.exists() or not predictions.exists():
            return None
        values = json.loads(file.read_text(encoding="utf-8"))
        if train is not None and values["train"] != train:
            raise ValueError(
                f"Expected the training data of seed {seed} that the folder's "
                f"results were made with. Received: folder="
                f"{str(self.path)!r} and other rows. Name another folder."
            )
        return _with_predictions(Run.from_dict(values), predictions)

    def write(self, run: Run, train: str) -> None:
        if self.path is None:
            return
        stem = self._stem(run.method, run.seed)
        # The JSON last: a run without it has not finished.
        run.scores.save_predictions(self.path / f"{stem}.csv.gz")
        self._write(
            self.path / f"{stem}.json", {**run.to_dict(), "train": train}
        )
        (self.path / f"{stem}.error.txt").unlink(missing_ok=True)

    def write_error(self, method, seed, text) -> None:
        if self.path is None:
            return
        file = self.path / f"{self._stem(method, seed)}.error.txt"
        with written_whole(file) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def errors(self, methods) -> dict:
        """Broken runs: dict from (method, seed) to the text of the error."""
        found = {}
        for method in methods:
            prefix = self._stem(method, "")
            for file in self.path.glob(f"{prefix}*.error.txt"):
                seed = file.name.removeprefix(prefix).removesuffix(".error.txt")
                found[method, int(seed)] = file.read_text(encoding="utf-8")
        return found

    def seeds(self, methods) -> list[int]:
        """All seeds of which some run has finished, sorted."""
        found = set()
        for method in methods:
            prefix = self._stem(method, "")
            for file in self.path.glob(f"{prefix}*.json"):
                found.add(int(file.stem.removeprefix(prefix)))
        return sorted(found)

    def _write(self, file, content):
        with written_whole(file) as temporary:
            temporary.write_text(
                json.dumps(content, indent=1) + "\n", encoding="utf-8"
            )


def _with_predictions(run, path):
    frame = pd.read_csv(
        path, dtype={"label": str, "prediction": str, "group": str}
    )
    scores = type(run.scores)(list(run.scores), frame, run.scores.confidence)
    return Run(
        **{
            **{k: getattr(run, k) for k in run.__dataclass_fields__},
            "scores": scores,
        }
    )
