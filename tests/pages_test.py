"""HTML pages and short texts of results."""

import html.parser
import re

import numpy as np
import pandas as pd
import pytest

import keras_debias as kd
from keras_debias.utils import html_page
from keras_debias.utils.short_repr import short
from keras_debias.utils.spreadsheets import safe_text
from keras_debias.utils.spreadsheets import write_csv

EVIL = "<script>alert(1)</script>"


class Reader(html.parser.HTMLParser):
    """Collects tags; raises where they are not closed in order."""

    VOID = {"meta", "link", "img", "br", "circle", "line"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def split():
    generator = np.random.default_rng(0)
    y = np.arange(300) % 2
    words = np.array("red blue cold warm tall short".split())
    texts = [
        " ".join([*generator.choice(words, 3), EVIL if label else "calm"])
        for label in y
    ]
    return kd.data.Split(
        texts,
        y,
        {"kind": [EVIL if y[i] and i % 9 else "b" for i in range(300)]},
        (f"no {EVIL}", "yes & co"),
        name=EVIL,
    )


class Answers:
    def predict(self, x, batch_size=None, verbose=0):
        return np.eye(2)[np.arange(len(x)) % 3 % 2]


def scores():
    return kd.evaluate(Answers(), {EVIL: split()}, from_logits=False)


def comparison():
    run = kd.comparison.Run(
        method=EVIL,
        seed=0,
        scores=scores(),
        settings={EVIL: EVIL},
        selection="last update",
        validation={},
        notes={"reason": EVIL},
        updates=1,
        seconds=1.0,
        seconds_per_update=1.0,
        peak_memory=1,
        environment={"keras": EVIL},
    )
    errors = {(EVIL, 1): EVIL}
    return kd.comparison.Comparison([EVIL], [run], errors)


def recommendation():
    return kd.recipes.Recommendation(
        kd.recipes.FineTuning(), f"Because {EVIL}.", {"cue": EVIL, "gain": 0.5}
    )


RESULTS = {
    "audit": (lambda: kd.audit(split()), "to_html"),
    "errors": (
        lambda: kd.audit(
            split(), target="errors", predictions=Answers().predict(split().x)
        ),
        "to_html",
    ),
    "evaluate": (scores, "to_html"),
    "compare": (comparison, "report"),
    "recommended": (recommendation, "to_html"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_page_is_whole_escaped_and_needs_nothing_else(name, tmp_path):
    make, method = RESULTS[name]
    result = make()
    getattr(result, method)(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    for text in (page, result._repr_html_()):
        reader = Reader(text)
        assert "script" not in reader.tags
        assert not {"src", "href"} & {key for key, _ in reader.attributes}
        assert not any(key.startswith("on") for key, _ in reader.attributes)
        assert "&lt;script&gt;" in text or "&#x27;&lt;&#x27;" in text
        assert "url(" not in text and "@import" not in text
    for section in ("What was done", "How sure is it", "What to do next"):
        assert f"<h2>{section}</h2>" in page
    assert 'class="headline"' in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_a_chart_places_shares_by_percent():
    line = html_page.chart_line("a", "b", [("one", 0.25)], (-0.1, 1.2))
    assert 'cx="25.00%"' in line
    assert 'x1="0.00%"' in line and 'x2="100.00%"' in line


def test_backticks_are_code_and_nothing_more():
    text = html_page.paragraphs(["`a<b` and `c"])
    assert text == "<p><code>a&lt;b</code> and `c</p>"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\t=1", "  =1", "\r=1", "\n@x"]
)
def test_formulas_are_written_as_text(text, tmp_path):
    frame = pd.DataFrame({text: [text, "plain, text"], "n": [-1.5, 2.0]})
    write_csv(frame, tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv")
    assert read.columns[0].startswith("'") and read.iloc[0, 0].startswith("'")
    assert read.iloc[1, 0] == "plain, text"
    assert read["n"].tolist() == [-1.5, 2.0]
    assert "\n" not in safe_text(text)


def test_results_show_themselves_in_a_line():
    report = kd.audit(split())
    results = [
        report.findings[0],
        report.group_findings[0],
        *report.advice,
        *report.probes,
        *scores(),
        comparison().runs[0],
        kd.evaluation.representation(
            np.eye(4), np.array([0, 1, 0, 1]), minority=1
        ),
        kd.analysis.TargetLayerSearch(2, (0.1,) * 30, (("a", "b"),) * 20),
    ]
    for result in results:
        text = repr(result)
        assert text.startswith(type(result).__name__ + "(")
        assert "\n" not in text and len(text) < 700
        assert "script" not in Reader(result._repr_html_()).tags
    assert repr(results[-1]) == (
        "TargetLayerSearch(layer=2, curve=<30 items>, pairs=<20 items>)"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        ((1, 0.5), "(1, 0.5)"),
        ({"a": 1.0}, "{'a': 1}"),
        (np.zeros((3, 4)), "<ndarray of shape (3, 4)>"),
        ("x" * 99, f"'{'x' * 56}..."),
        (None, "None"),
    ],
)
def test_short(value, text):
    assert short(value) == text


def test_tables_stay_narrow():
    widths = [len(line) for line in str(kd.audit(split())).splitlines()]
    assert max(widths) <= 130
    assert not re.search(r"\n{3}", str(scores()))
