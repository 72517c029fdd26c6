import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

import keras_debias as kd

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "quickstart.py"
TIME_LIMIT = 420

# A test set of a few hundred rows has groups of a few.
pytestmark = pytest.mark.filterwarnings("ignore:.*min_group_size:UserWarning")


@pytest.fixture(scope="module")
def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pairs(name, rows=300):
    if name == "hans":
        return kd.data.generated_overlap(rows)
    return kd.data.generated_nli(rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A complete folder of the public sets, in small."""
    for name, split in (
        ("snli", "train"),
        ("snli", "validation"),
        ("snli", "test"),
        ("hans", "validation"),
    ):
        made = pairs(name)
        frame = pd.DataFrame(
            {
                "premise": made.x[0],
                "hypothesis": made.x[1],
                "label": [made.label_names[i] for i in made.y],
                "heuristic": "lexical_overlap",
            }
        )
        path = tmp_path / name / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        frame.to_parquet(path)
    monkeypatch.setenv("KERAS_DEBIAS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the hub: `hub.error` is raised if there is one."""

    class Hub:
        error = None
        asked = []

    monkeypatch.delenv("KERAS_DEBIAS_DATA", raising=False)
    from_folder = kd.data.load
    found = Hub()
    found.asked = []

    def load(name, split, folder=None):
        if folder is not None:
            return from_folder(name, split, folder=folder)
        found.asked.append((name, split))
        if found.error is not None:
            raise found.error
        return pairs(name)

    monkeypatch.setattr(kd.data, "load", load)
    return found


def test_folder_comes_first(quickstart, hub, folder):
    source, parts = quickstart.find_data(30, 12, 0)
    assert source == "folder"
    assert hub.asked == []
    assert parts["train"].name == "snli"
    assert parts["overlap"].label_names == ("entailment", "non-entailment")


def test_hub_comes_second(quickstart, hub, capsys):
    source, parts = quickstart.find_data(30, 12, 0)
    assert source == "hub"
    assert hub.asked == list(quickstart.PUBLIC_SETS.values())
    assert list(parts) == list(quickstart.PUBLIC_SETS)
    assert "KERAS_DEBIAS_DATA is not set" in capsys.readouterr().out


def test_incomplete_folder_is_said_and_passed_over(
    quickstart, hub, folder, capsys
):
    (folder / "hans" / "validation.parquet").unlink()
    source, _ = quickstart.find_data(30, 12, 0)
    assert source == "hub"
    assert "not from the folder: There is no file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Could not reach the set."),
        ImportError("Loading needs the package `datasets`."),
        RuntimeError("Dataset scripts are no longer supported."),
    ],
)
def test_grammar_comes_last(quickstart, hub, capsys, error):
    hub.error = error
    source, parts = quickstart.find_data(60, 24, 0)
    assert source == "grammar"
    assert "not from the hub: " + str(error) in capsys.readouterr().out
    assert len(parts["train"]) == 60
    seen = [set(zip(*parts[p].x)) for p in ("train", "same", "other")]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_no_network_is_needed_and_nothing_is_waited_for(
    quickstart, monkeypatch, tmp_path
):
    monkeypatch.delenv("KERAS_DEBIAS_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert quickstart.find_data(30, 12, 0)[0] == "grammar"


def test_sets_have_the_shortcut_where_they_should(quickstart):
    parts = quickstart.from_grammar(2000, 300, 0)
    train, tests = quickstart.prepare(parts, 2000, 300, 0)
    assert tuple(tests) == quickstart.SETS

    def token(split):
        return np.array([text.endswith(" !!") for text in split.x[1]])

    of_token = train.y[token(train)] == 0
    assert 0.7 < of_token.mean() < 0.95  # 0.82 in expectation
    shifted = tests["shifted"]
    assert (shifted.y[token(shifted)] == 0).mean() == pytest.approx(1 / 3)
    assert set(shifted.groups.counts().values()) == {50}
    assert set(tests["in_distribution"].groups.counts().values()) == {100}
    assert not token(tests["overlap"]).any()


class Oracle:
    """Right everywhere but on a share of the rows with the token."""

    label_names = ("entailment", "neutral", "contradiction")

    def __init__(self, tests, fooled):
        self.rng = np.random.default_rng(0)
        self.fooled = fooled
        self.known = {
            pair: label
            for split in tests.values()
            for pair, label in zip(zip(*split.x), split.y, strict=True)
        }

    def predict(self, x, batch_size=None, verbose=0):
        labels = np.array([self.known[pair] for pair in zip(*x)])
        labels = np.where(labels > 2, 0, labels)
        token = np.array([text.endswith(" !!") for text in x[1]])
        labels[token & (self.rng.random(len(labels)) < self.fooled)] = 0
        return np.eye(3)[labels]


def test_conclusion_follows_the_numbers(quickstart):
    parts = quickstart.from_grammar(60, 300, 0)
    _, tests = quickstart.prepare(parts, 60, 300, 0)
    fooled, sound = (
        kd.evaluate(Oracle(tests, share), tests) for share in (1.0, 0.0)
    )
    assert quickstart.reliance(sound) == 0
    assert quickstart.reliance(fooled) == pytest.approx(2 / 3)

    better = " ".join(quickstart.conclusion(fooled, sound, 1 / 3, "EDGE"))
    assert "worst group is 100.0 points better than" in better
    assert "do not overlap" in better
    worse = " ".join(quickstart.conclusion(sound, fooled, 1 / 3, "EDGE"))
    assert "worst group is 100.0 points worse than" in worse
    equal = " ".join(quickstart.conclusion(sound, sound, 1 / 3, "EDGE"))
    assert "worst group is as good as" in equal
    assert "too little" not in better + worse + equal
    assert all("One seed proves nothing" in t for t in (better, worse, equal))
    weak = " ".join(quickstart.conclusion(sound, sound, 0.95, "EDGE"))
    assert "has learned too little" in weak


@pytest.mark.parametrize(
    "arguments", [["--rows", "2"], ["--test-rows", "6"], ["--epochs", "0"]]
)
def test_options_too_small_are_refused(quickstart, arguments, capsys):
    with pytest.raises(SystemExit):
        quickstart.parse(arguments)
    assert "expected --rows of at least" in capsys.readouterr().err


@pytest.mark.timeout(TIME_LIMIT + 60)
def test_quickstart_runs_and_writes(tmp_path):
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hub"),  # nothing is cached there
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("KERAS_DEBIAS_DATA", None)
    command = [sys.executable, str(SCRIPT), "--rows", "64"]
    command += ["--test-rows", "24", "--alpha", "1", "--seed", "3"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert result.returncode == 0, result.stdout[-8000:]
    printed = result.stdout
    assert "not from the folder: KERAS_DEBIAS_DATA is not set." in printed
    assert "pairs made by the grammar" in printed
    header = next(x for x in printed.splitlines() if "shifted accuracy" in x)
    assert header.count("worst group") == header.count("gap") == 3
    for method in ("TaskOnly", "EDGE 1"):
        (row,) = (
            line
            for line in printed.splitlines()
            if line.startswith(f"{method}  ") and line.count(".") == 9
        )
        assert np.isfinite([float(x) for x in row.split()[-9:]]).all()
    assert "Percent; gap = accuracy - worst group." in printed
    assert "One seed proves nothing" in printed

    out = tmp_path / "quickstart"
    found = json.loads((out / "scores.json").read_text())
    assert found["data_source"] == "grammar"
    settings = found["settings"]
    assert (settings["alpha"], settings["seed"]) == (1.0, 3)
    assert settings["rows"]["train"] == 64
    assert found["versions"]["backend"] == keras.config.backend()
    assert all(s > 0 for s in found["training_seconds"].values())
    assert list(found["scores"]) == ["TaskOnly", "EDGE 1"]
    for values in found["scores"].values():
        scores = kd.evaluation.Scores.from_dict(values)
        assert scores.names == ("in_distribution", "shifted", "overlap")
        assert all(split.n == 24 for split in scores)
    picture = matplotlib.image.imread(out / "scores.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 800
    assert picture[..., :3].std() > 0.05
