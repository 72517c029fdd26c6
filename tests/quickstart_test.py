import importlib.util
import json
import pathlib
import types

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "quickstart.py"

# A test set of a few hundred rows has groups of a few.
pytestmark = pytest.mark.filterwarnings("ignore:.*min_group_size:UserWarning")


@pytest.fixture(scope="module")
def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # What the examples share lies beside them.
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


def test_the_domain_goes_with_the_label_in_training_only(quickstart):
    train, tests = quickstart.load_data(1000, 200, 0)
    counts = train.groups.counts()
    assert counts == {
        "label=negative, domain=tweets": 25,
        "label=negative, domain=film_reviews": 475,
        "label=positive, domain=tweets": 475,
        "label=positive, domain=film_reviews": 25,
    }
    balanced = tests["domain says nothing"].groups.counts()
    assert set(balanced.values()) == {50}
    seen = set(train.x)
    for split in tests.values():
        # The few equal sentences are in the source itself.
        assert np.mean([text in seen for text in split.x]) < 0.01


class Reader:
    """A run whose model follows the domain on a share of the rows."""

    def __init__(self, quickstart, follows):
        _, tests = quickstart.load_data(400, 200, 0)
        frames = []
        for name, split in tests.items():
            groups = np.array(split.groups.names)[split.groups.ids]
            tweet = np.array(["domain=tweets" in group for group in groups])
            label = np.array(split.label_names)[split.y]
            by_domain = np.where(tweet, "positive", "negative")
            rng = np.random.default_rng(0)
            wrong = rng.random(len(split)) < follows
            frames.append(
                pd.DataFrame(
                    {
                        "split": name,
                        "label": label,
                        "prediction": np.where(wrong, by_domain, label),
                        "group": groups,
                    }
                )
            )
        predictions = pd.concat(frames, ignore_index=True)

        class Scores(dict):
            pass

        self.scores = Scores()
        self.scores.predictions = predictions
        for name, rows in predictions.groupby("split"):
            right = rows["label"] == rows["prediction"]
            self.scores[name] = types.SimpleNamespace(
                accuracy=right.mean(),
                worst_group_accuracy=right.groupby(rows["group"]).mean().min(),
            )


def test_measures_and_conclusion_follow_the_predictions(quickstart):
    fooled = quickstart.measures(Reader(quickstart, 1.0))
    sound = quickstart.measures(Reader(quickstart, 0.0))
    assert fooled["where it misleads"] == fooled["worst group"] == 0
    assert fooled["reliance"] == 100
    assert fooled["domain says nothing"] == 50
    assert sound["reliance"] == 0
    assert sound["where it misleads"] == sound["worst group"] == 100

    helped = quickstart.conclusion({"plain": fooled, "recommended": sound})
    assert "plain fine-tuning gets 0 of 100" in helped
    assert "the recommended method 100 of 100" in helped
    same = quickstart.conclusion({"plain": sound, "recommended": sound})
    assert "did not help" in same
    worse = quickstart.conclusion({"plain": sound, "recommended": fooled})
    assert "did not help" in worse


@pytest.mark.parametrize("arguments", [["--rows", "2"], ["--test-rows", "6"]])
def test_options_too_small_are_refused(quickstart, arguments, capsys):
    with pytest.raises(SystemExit):
        quickstart.parse(arguments)
    assert "expected --rows of at least" in capsys.readouterr().err


def test_quickstart_runs_and_writes(quickstart, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "SEQUENCE_LENGTH", 16)
    arguments = ["--rows", "200", "--test-rows", "40", "--seed", "3"]
    assert quickstart.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Why this method:" in printed
    header = next(x for x in printed.splitlines() if "worst group" in x)
    assert "where it misleads" in header and "reliance" in header
    for method in ("plain", "EDGE 1", "recommended"):
        (row,) = (
            line
            for line in printed.splitlines()
            if line.startswith(f"{method}  ") and line.count(".") == 5
        )
        assert np.isfinite([float(x) for x in row.split()[-5:]]).all()
    out = tmp_path / "quickstart"
    content = json.loads((out / "results.json").read_text())
    assert content["methods"] == ["plain", "EDGE 1", "recommended"]
    assert not content["errors"]
    page = (out / "report.html").read_text()
    assert "<h1>A shortcut in sentiment data</h1>" in page
    assert "Why this method" in page
    picture = matplotlib.image.imread(out / "results.png")
    assert picture.shape[1] > 800 and picture[..., :3].std() > 0.05
