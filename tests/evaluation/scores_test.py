import gzip
import json

import numpy as np
import pandas as pd
import pytest

from keras_debias.data import Split
from keras_debias.evaluation import Scores
from keras_debias.evaluation import comparison_table
from keras_debias.evaluation import evaluate
from keras_debias.evaluation import plot_comparison


class Fixed:
    def __init__(self, seed):
        self.seed = seed

    def predict(self, x, batch_size=None, verbose=0):
        noise = np.random.default_rng(self.seed).normal(size=(len(x), 2))
        return noise + x


def made(seed=0):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    x = np.eye(2)[y]
    splits = {
        "in_domain": Split(x, y, groups=rng.choice(["a", "b"], 60)),
        "far": Split(x, y),
    }
    return evaluate(Fixed(seed), splits, bootstrap=50)


@pytest.fixture(scope="module")
def scores():
    return made()


def test_mapping(scores):
    assert scores.names == ("in_domain", "far") and len(scores) == 2
    assert [s.name for s in scores] == ["in_domain", "far"]
    assert "far" in scores and "near" not in scores
    with pytest.raises(KeyError, match="in_domain"):
        scores["near"]


def test_table_is_aligned(scores):
    splits, groups, note = str(scores).split("\n\n")
    lines = splits.splitlines()
    assert lines[0].split()[:3] == ["split", "n", "accuracy"]
    assert f"{100 * scores['far'].accuracy:.1f}" in lines[3]
    assert len(lines[0]) <= len(lines[1]) == max(map(len, lines))
    assert "(worst)" in groups and "95 %" in note


def test_json(scores, tmp_path):
    path = tmp_path / "new" / "scores.json"
    scores.to_json(path)
    raw = json.loads(path.read_text())
    assert raw["splits"][0]["accuracy"] == scores["in_domain"].accuracy
    again = Scores.from_json(path)
    assert again.to_dict() == scores.to_dict()
    assert again["in_domain"] == scores["in_domain"]
    assert str(again) == str(scores)
    assert [p.name for p in path.parent.iterdir()] == ["scores.json"]
    with pytest.raises(ValueError, match="save_predictions"):
        again.predictions


def test_predictions(scores, tmp_path):
    scores.save_predictions(tmp_path / "p.parquet")
    scores.save_predictions(tmp_path / "p.csv.gz")
    frame = pd.read_parquet(tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(
        frame.fillna(""), scores.predictions.fillna(""), check_dtype=False
    )
    with gzip.open(tmp_path / "p.csv.gz", "rt") as file:
        assert len(file.readlines()) == 121
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="csv.gz"):
        scores.save_predictions(tmp_path / "p.csv")


def test_a_failed_write_leaves_nothing(scores, tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    path.write_text("old")
    monkeypatch.setattr(scores, "confidence", object())
    with pytest.raises(TypeError):
        scores.to_json(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_plot(scores, tmp_path):
    path = tmp_path / "scores.png"
    figure = scores.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    bars, groups = figure.axes
    heights = sorted(p.get_height() for p in bars.patches)
    expected = [
        scores["in_domain"].accuracy,
        scores["in_domain"].worst_group_accuracy,
        scores["far"].accuracy,
    ]
    found = [h for h in heights if not np.isnan(h)]
    np.testing.assert_allclose(found, sorted(100 * np.array(expected)))
    labels = [t.get_text() for t in groups.get_yticklabels()]
    assert labels[0] == "in domain" and labels[1].startswith("a  (n=")


def test_comparison(scores, tmp_path):
    named = {"plain": scores, "debiased": made(5)}
    table = comparison_table(named).splitlines()
    assert table[0].split()[:2] == ["in_domain", "accuracy"]
    assert table[3].split()[:2] == [
        "debiased",
        f"{100 * named['debiased']['in_domain'].accuracy:.1f}",
    ]
    figure = plot_comparison(named, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 5000
    assert len(figure.axes) == 2
    assert len(figure.axes[0].patches) == 4
    only = Scores([named["debiased"]["far"]])
    assert " -" in comparison_table({"plain": scores, "only": only})
    plot_comparison({"plain": scores, "only": only}, tmp_path / "other.png")
    with pytest.raises(ValueError, match="non-empty dict"):
        comparison_table({})
