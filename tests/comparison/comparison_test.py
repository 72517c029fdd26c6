"""The table, against figures worked out by hand."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from keras_debias.comparison import Comparison
from keras_debias.comparison import Run
from keras_debias.comparison import tables
from keras_debias.evaluation import GroupScore
from keras_debias.evaluation import Scores
from keras_debias.evaluation import SplitScore
from keras_debias.evaluation.table import text_blocks

ACCURACY = {"plain": [0.60, 0.64], "other_&_<b>": [0.70, 0.62]}
WORST = {"plain": [0.10, 0.20], "other_&_<b>": [0.30, 0.40]}


def run(method, seed):
    accuracy, worst = ACCURACY[method][seed], WORST[method][seed]
    shifted = SplitScore(
        "shifted",
        100,
        accuracy,
        accuracy,
        groups=(GroupScore("a", 40, worst), GroupScore("b", 60, 0.9)),
        worst_group="a",
        worst_group_accuracy=worst,
        gap=accuracy - worst,
        accuracy_interval=(accuracy - 0.1, accuracy + 0.08),
        worst_group_accuracy_interval=(worst - 0.05, worst + 0.05),
    )
    far = SplitScore("far", 50, 0.5, 0.5)
    predictions = pd.DataFrame(
        {
            "split": "far",
            "row": [0],
            "label": ["x"],
            "prediction": ["y"],
            "group": [None],
        }
    )
    return Run(
        method=method,
        seed=seed,
        scores=Scores([shifted, far], predictions, 0.95),
        settings={"class_name": method},
        selection="last update",
        validation={"WorstClass": worst, "Average": 1 - worst},
        notes={"mistakes": 3},
        updates=100,
        seconds=12.0,
        seconds_per_update=0.11,
        peak_memory=3 * 2**20,
        environment={"keras": "3"},
    )


@pytest.fixture
def comparison():
    runs = [run(m, s) for s in (0, 1) for m in ACCURACY]
    return Comparison(
        list(ACCURACY), runs, {("plain", 2): "Trace\nValueError: no"}, {"k": 1}
    )


def line(comparison, method, split, measure):
    found = comparison.summary().set_index(["method", "split", "measure"])
    return found.loc[(method, split, measure)]


def test_summary(comparison):
    found = line(comparison, "other_&_<b>", "shifted", "accuracy")
    assert found["mean"] == pytest.approx(0.66)
    assert found["std"] == pytest.approx(0.08 / np.sqrt(2))
    # +0.10 and -0.02: paired, seed by seed.
    assert found["difference"] == pytest.approx(0.04)
    assert found["difference_std"] == pytest.approx(0.12 / np.sqrt(2))
    assert (found["better"], found["pairs"], found["seeds"]) == (1, 2, 2)
    assert found["rank"] == 1.5
    # The interval over rows is that of the runs, whatever the seeds do.
    assert found["rows_low"] == pytest.approx(0.56)
    assert found["rows_high"] == pytest.approx(0.74)
    gap = line(comparison, "other_&_<b>", "shifted", "gap")
    # 0.40 and 0.22 against 0.50 and 0.44: less is better.
    assert gap["better"] == 2 and gap["rank"] == 1
    tie = line(comparison, "plain", "far", "accuracy")
    assert tie["rank"] == 1.5 and np.isnan(tie["rows_low"])
    with pytest.raises(KeyError):
        line(comparison, "plain", "far", "worst_group_accuracy")


def test_one_seed_has_no_spread(comparison):
    one = Comparison(comparison.methods, comparison.runs[:2])
    assert np.isnan(line(one, "plain", "shifted", "accuracy")["std"])
    assert "±" not in str(one).split("\n\n")[0]
    assert "70.0 (+10.0)" in str(one)


def test_text(comparison):
    parts = str(comparison).split("\n\n")
    results, note, intervals, _, tests, *parts = parts
    _, _, criteria, served, costs, said, broken = parts
    assert served.startswith("To serve: other_&_<b>, seed")
    values = ACCURACY["other_&_<b>"], ACCURACY["plain"]
    expected = stats.ttest_rel(*values).pvalue
    assert f"{expected:.2g} / " in tests
    assert "66.0 ± 5.7 (+4.0, 1/2)" in results
    assert "35.0 ± 7.1 (+20.0, 2/2)" in results
    # By the worst group where there are groups: (1 + 1.5) / 2.
    assert results.splitlines()[3].split()[-1] == "1.2"
    assert "plain" in note and "[56.0, 74.0]" in intervals
    assert "WorstClass" in criteria
    assert "110.0" in costs and "last update" in costs
    assert "plain, seed 2: ValueError: no" in broken
    assert "cannot be told from plain on shifted accuracy" in said
    assert comparison.choose("WorstClass") == "other_&_<b>"
    assert comparison.choose("Average") == "plain"


def test_memory_of_a_gpu_has_its_column(comparison):
    header, _ = tables.costs(comparison)
    assert "GPU MiB" not in header
    runs = [
        dataclasses.replace(r, accelerator_memory=5 * 2**20)
        for r in comparison.runs
    ]
    header, rows = tables.costs(Comparison(comparison.methods, runs))
    assert header[-1] == "GPU MiB"
    assert [row[-1] for row in rows] == ["5"] * len(rows)


def test_a_wide_table_is_cut_into_blocks():
    header = ["method", *(f"column {i}" for i in range(20))]
    text = text_blocks(header, [["plain", *map(str, range(20))]])
    assert max(map(len, text.splitlines())) <= 100
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert len(blocks) == 3
    values = [v for b in blocks for v in b[2].split()[1:]]
    assert values == [str(i) for i in range(20)]
    assert all(b[2].startswith("plain") for b in blocks)


def test_files(comparison, tmp_path):
    comparison.to_json(tmp_path / "c.json")
    kept = json.loads((tmp_path / "c.json").read_text())
    assert len(kept["runs"]) == 4 and kept["errors"][0]["seed"] == 2
    means = {
        (s["method"], s["split"], s["measure"]): s["mean"]
        for s in kept["summary"]
    }
    assert means["plain", "shifted", "accuracy"] == pytest.approx(0.62)
    comparison.to_csv(tmp_path / "c.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "c.csv"), comparison.summary(), check_dtype=False
    )
    markdown = comparison.to_markdown(tmp_path / "c.md")
    assert (tmp_path / "c.md").read_text() == markdown + "\n"
    rows = markdown.splitlines()
    assert len(rows) == 4 and len({row.count("|") for row in rows}) == 1
    latex = comparison.to_latex(tmp_path / "c.tex")
    assert r"other\_\&\_<b>" in latex and r"66.0 $\pm$ 5.7" in latex
    assert len(comparison.predictions) == 4
    figure = comparison.plot(tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert [a.get_title() for a in figure.axes if a.get_visible()] == [
        "shifted",
        "far",
    ]


def test_report_needs_nothing_else(comparison, tmp_path):
    comparison.report(tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert not re.findall(r'(?:src|href)="([^"]*)"', page) and "<svg" in page
    assert "<b>" not in page and "other_&amp;_&lt;b&gt;" in page
    for text in ("66.0 ± 5.7", "ValueError: no", "mistakes", "a (n = 40)"):
        assert text in page


def test_a_comparison_in_which_everything_broke(tmp_path):
    empty = Comparison(["plain"], [], {("plain", 0): "ValueError: no"})
    assert "plain, seed 0: ValueError: no" in str(empty)
    empty.report(tmp_path / "c.html")
    empty.to_json(tmp_path / "c.json")
    assert "ValueError: no" in (tmp_path / "c.html").read_text()
    empty.to_csv(tmp_path / "c.csv")
    assert list(pd.read_csv(tmp_path / "c.csv")) == list(empty.summary())
    assert empty.to_markdown().startswith("| method | seeds |")
    assert "method" in empty.to_latex()
    assert empty.frame.empty and empty.predictions.empty
    assert list(empty.predictions)[:3] == ["method", "seed", "split"]
    with pytest.raises(ValueError, match="finished runs.*1 broken"):
        empty.plot()
    with pytest.raises(ValueError, match="criterion='Average'"):
        empty.choose("Average")


NAMES = ("=cmd|' /C calc'!A1", "$x$ and $y^", "a|b`*_<i>", "@sum", "\\end{x}~^")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name, tmp_path, monkeypatch):
    monkeypatch.setitem(ACCURACY, name, [0.7, 0.6])
    monkeypatch.setitem(WORST, name, [0.3, 0.4])
    runs = [run(m, s) for s in (0, 1) for m in ("plain", name)]
    comparison = Comparison(["plain", name], runs)
    comparison.plot(tmp_path / "c.png")
    comparison.report(tmp_path / "c.html")
    comparison.to_csv(tmp_path / "c.csv")
    cells = pd.read_csv(tmp_path / "c.csv")["method"]
    assert not cells.str.startswith(("=", "+", "-", "@")).any()
    assert {c.removeprefix("'") for c in cells} == {"plain", name}
    lines = comparison.to_markdown().splitlines()
    bare = [re.sub(r"\\.", "", line) for line in lines]
    assert len({line.count("|") for line in bare}) == 1
    assert "<" not in "".join(bare)
    latex = comparison.to_latex()
    assert latex.count("\\\\\n") == 3
    splits = [dataclasses.replace(s, name=name) for s in runs[0].scores]
    Scores(splits[:1], None, 0.95).plot(tmp_path / "s.png")


def test_what_cannot_be_told_from_the_first(monkeypatch):
    rng = np.random.default_rng(0)
    shared = rng.normal(0.7, 0.02, 5)
    values = {
        "plain": shared,
        "luck": shared + [0.01, -0.01, 0.01, -0.012, 0.004],
        "better": shared + [0.05, 0.06, 0.05, 0.055, 0.06],
    }
    for method, accuracies in values.items():
        monkeypatch.setitem(ACCURACY, method, accuracies.tolist())
        monkeypatch.setitem(WORST, method, accuracies.tolist())
    runs = [run(m, s) for s in range(5) for m in values]
    said = Comparison(list(values), runs).diagnoses()
    assert [s for s in said if s.startswith("luck cannot be told from plain")]
    # Its accuracy on "far" is the same in all runs.
    better = [s for s in said if s.startswith("better cannot")]
    assert all("shifted" not in s and "far" in s for s in better)


def test_choose_refuses_what_has_not_learned():
    def made(method, seed, learned, constant):
        return dataclasses.replace(
            run("plain", seed),
            method=method,
            validation={"Average": 0.55, "WorstClass": 0.2},
            learned=learned,
            constant={"Average": constant, "WorstClass": 0.0},
        )

    good = [made("good", s, True, 0.5) for s in (0, 1)]
    bad = [
        dataclasses.replace(
            made("bad", s, False, 0.6),
            validation={"Average": 0.58, "WorstClass": 0.3},
        )
        for s in (0, 1)
    ]
    both = Comparison(["bad", "good"], good + bad)
    assert both.choose("WorstClass") == both.choose("Average") == "good"
    assert any("bad has not learned" in said for said in both.diagnoses())
    with pytest.raises(ValueError, match="58.0 % .bad., and 60.0 %"):
        Comparison(["bad"], bad).choose("Average")
