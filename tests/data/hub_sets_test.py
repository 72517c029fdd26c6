"""Sets of the papers: made rows in their columns, in a folder and on a hub."""

import numpy as np
import pandas as pd
import pytest

import keras_debias as kd
from keras_debias.data import sources
from keras_debias.data.catalog import BBQ
from tests import toy_language

datasets = pytest.importorskip("datasets")

# Columns as the hub has them, two rows each; then what the split holds.
PAIR = {"sentence1": ["a b", "c"], "sentence2": ["d", "e f"]}
MADE = {
    "qqp": (
        {"question1": ["a", "b"], "question2": ["c", "d"], "label": [1, 0]},
        ["not_duplicate", "duplicate"],
        ["duplicate", "not_duplicate"],
    ),
    "cb": (
        {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 1]},
        ["entailment", "contradiction", "neutral"],
        ["neutral", "contradiction"],
    ),
    "wic": (
        {"word": ["a", "b"], **PAIR, "label": [1, 0]},
        ["False", "True"],
        ["True", "False"],
    ),
    "boolq": (
        {"question": ["a", "b"], "passage": ["c", "d"], "label": [0, 1]},
        ["False", "True"],
        ["False", "True"],
    ),
    "wsc": (
        {
            "text": ["a", "b"],
            "span1_text": ["c", "d"],
            "span2_text": ["e", "f"],
            "label": [0, 1],
        },
        ["False", "True"],
        ["False", "True"],
    ),
    "multirc": (
        {
            "paragraph": ["a", "b"],
            "question": ["c", "d"],
            "answer": ["e", "f"],
            "label": [1, 1],
        },
        ["False", "True"],
        ["True", "True"],
    ),
    "copa": (
        {
            "premise": ["a", "b"],
            "question": ["cause", "effect"],
            "choice1": ["c", "d"],
            "choice2": ["e", "f"],
            "label": [1, 0],
        },
        ["choice1", "choice2"],
        ["choice2", "choice1"],
    ),
    # Its classes have other names there.
    "pawsx": (
        {**PAIR, "label": [1, 0]},
        ["0", "1"],
        ["paraphrase", "different"],
    ),
    # Its labels are numbers there.
    "super_tweet_hate": (
        {"text": ["a", "b"], "gold_label": [7, 0]},
        None,
        ["not_hate", "hate_gender"],
    ),
    "bbq": (
        {
            "context": ["a", "b"],
            "question": ["c", "d"],
            "ans0": ["e", "f"],
            "ans1": ["g", "h"],
            "ans2": ["i", "j"],
            "label": [2, 0],
            "context_condition": ["ambig", "disambig"],
            "question_polarity": ["neg", "nonneg"],
        },
        None,
        ["C", "A"],
    ),
    "commonsense_qa": (
        {
            "question": ["a", "b"],
            "choices": [{"label": [*"ABCDE"], "text": [*"vwxyz"]}] * 2,
            "answerKey": ["B", "E"],
        },
        None,
        ["B", "E"],
    ),
}
ANSWERS = {
    "squad": (
        {
            "context": ["a", "b"],
            "question": ["c", "d"],
            "answers": [
                {"text": ["one", "two"], "answer_start": [0, 1]},
                {"text": ["three"], "answer_start": [0]},
            ],
        },
        ["one", "three"],
    ),
    "record": (
        {
            "passage": ["a", "b"],
            "query": ["c", "d"],
            "answers": [["one"], ["two", "three"]],
        },
        ["one", "two"],
    ),
    "drop": (
        {
            "passage": ["a", "b"],
            "question": ["c", "d"],
            "answers_spans": [
                {"spans": ["7"], "types": ["number"]},
                {"spans": ["one", "two"], "types": ["span", "span"]},
            ],
        },
        ["7", "one"],
    ),
    "gsm8k": (
        {"question": ["c", "d"], "answer": ["#### 1", "2"]},
        ["#### 1", "2"],
    ),
}


@pytest.fixture
def hub(monkeypatch):
    """A hub of one set; collects what is asked for."""
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)
    asked = []

    def serve(columns, names=None):
        data = datasets.Dataset.from_dict(columns)
        if names is not None:
            data = data.cast_column("label", datasets.ClassLabel(names=names))

        def load_dataset(repository, config, split):
            asked.append((repository, config, split))
            return data

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve


def labels_of(split):
    return [split.label_names[i] for i in split.y]


@pytest.mark.parametrize("name", MADE)
def test_classes_of_the_hub(name, hub):
    columns, names, expected = MADE[name]
    asked = hub(columns, names)
    part = sources.SOURCES[name].splits[0]
    split = kd.data.load(name, part)
    assert labels_of(split) == expected
    assert split.label_names == sources.SOURCES[name].label_names
    if name == "bbq":
        assert asked == [("heegyu/bbq", BBQ["age"], "test")]
        assert split.groups.names[0].startswith("context_condition=ambig")
    first = split.x[0] if isinstance(split.x, tuple) else split.x
    assert first.tolist() == next(iter(columns.values()))


def test_choices_have_columns_of_their_own(hub):
    hub(MADE["commonsense_qa"][0])
    split = kd.data.load("commonsense_qa", "validation")
    assert [column[0] for column in split.x] == ["a", *"vwxyz"]


@pytest.mark.parametrize("where", ["hub", "folder"])
def test_numbers_stay_numbers(where, hub, tmp_path):
    columns = {**PAIR, "label": [5.0, 0.0]}
    hub(columns)
    folder = None
    if where == "folder":
        folder = tmp_path
        (tmp_path / "stsb").mkdir()
        pd.DataFrame(columns).to_parquet(tmp_path / "stsb" / "train.parquet")
    split = kd.data.load("stsb", "train", folder=folder)
    assert split.y.dtype.kind == "f" and split.y[:, 0].tolist() == [5.0, 0.0]


@pytest.mark.parametrize("where", ["hub", "folder"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_go_with_prompts(name, where, hub, tmp_path):
    columns, answers = ANSWERS[name]
    hub(columns)
    folder = None
    if where == "folder":
        folder = tmp_path
        (tmp_path / name).mkdir()
        pd.DataFrame(columns).to_parquet(tmp_path / name / "train.parquet")
    split = kd.data.load(name, "train", folder=folder)
    assert split.x["decoder_text"].tolist() == answers
    assert "c" in split.x["encoder_text"][0]
    assert split.x["encoder_text"][0].endswith("Answer:")


def made_rows(name, folder):
    """A folder with a row for each label of a set, in its own columns."""
    source = sources.SOURCES[name]
    n = len(source.label_names)
    columns = (source.x,) if isinstance(source.x, str) else source.x
    frame = {c: [f"{c} {i}" for i in range(n)] for c in columns}
    frame[source.y] = list(source.label_names)
    if source.multi_label:
        frame[source.y] = [[label] for label in source.label_names]
    for group in source.groups:
        frame.setdefault(group, ["x"] * n)
    (folder / name).mkdir()
    path = folder / name / f"{source.splits[0]}.parquet"
    pd.DataFrame(frame).to_parquet(path)
    return kd.data.load(name, source.splits[0], folder=folder)


@pytest.mark.parametrize("name", kd.models.TEMPLATES)
def test_templates_labels_and_loaders_fit_each_other(name, tmp_path):
    split = made_rows(name, tmp_path)
    assert set(kd.models.LABELS) == set(kd.models.TEMPLATES)
    multi = sources.SOURCES[name].multi_label
    split = split.take(np.arange(min(len(split), 4)))
    classifier = kd.models.LabelWordClassifier(
        toy_language.gpt2(layers=1, length=1024),
        kd.models.LABELS[name],
        kd.models.TEMPLATES[name],
        multi_label=multi,
        instruction=False,
        sequence_length=256,
    )
    assert classifier.label_names == split.label_names
    if multi:
        classifier.tune_threshold(split)
    scores = kd.evaluate(classifier, split.with_groups(None), bootstrap=0)
    (score,) = scores
    assert score.n == len(split)
    classifier.fit(split.take(np.arange(2)), batch_size=2, verbose=0)
