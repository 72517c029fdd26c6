import functools
import socket
import time

import pandas as pd
import pytest

from keras_debias.data import load
from keras_debias.data import sources
from keras_debias.data.split import Split
from keras_debias.data.stress_tests import STRESS_TESTS
from keras_debias.data.stress_tests import stress_test

datasets = pytest.importorskip("datasets")
huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def no_folder(monkeypatch):
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)


@pytest.fixture
def hub(monkeypatch, no_folder):
    """A hub of one data set; collects what is asked for."""
    asked = []

    def serve(data):
        def load_dataset(repository, config, split):
            asked.append((repository, config, split))
            return data

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return serve


def nli(labels, **columns):
    names = columns.pop("names", ["entailment", "neutral", "contradiction"])
    n = len(labels)
    data = datasets.Dataset.from_dict(
        {
            "premise": [f"It is {i} o'clock." for i in range(n)],
            "hypothesis": ["It is late.", "It is early"][:n]
            + ["It rains !"] * (n - 2),
            "label": labels,
            **columns,
        }
    )
    return data.cast_column("label", datasets.ClassLabel(names=names))


def test_unknown_names_list_what_there_is(no_folder):
    with pytest.raises(ValueError, match="'snli'.*name='snly'"):
        load("snly", "train")
    with pytest.raises(ValueError, match="'validation'.*split='dev'"):
        load("snli", "dev")
    assert "snli" in sources.names()
    assert len(sources.describe().splitlines()) == len(sources.names())


def test_folder(tmp_path, no_folder, monkeypatch):
    (tmp_path / "hans").mkdir()
    pd.DataFrame(
        {
            "premise": ["a", "b"],
            "hypothesis": ["c", "d"],
            "label": ["non-entailment", "entailment"],
            "heuristic": ["constituent", "subsequence"],
        }
    ).to_parquet(tmp_path / "hans" / "validation.parquet")
    split = load("hans", "validation", folder=tmp_path)
    assert split.y.tolist() == [1, 0]
    assert split.groups.names == (
        "label=entailment, heuristic=subsequence",
        "label=non-entailment, heuristic=constituent",
    )
    assert not sources.available("hans", "validation")
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(tmp_path))
    assert sources.available("hans", "validation")
    assert load("hans", "validation").name == "hans"
    with pytest.raises(ValueError, match="validation"):
        load("hans", "train", folder=tmp_path)


@pytest.mark.parametrize(
    "labels",
    [["neutral", "-", "neutral", "contradiction"], [1, None, 1, 2]],
    ids=["names", "indices"],
)
def test_rows_without_a_label_leave_the_groups_too(tmp_path, labels):
    (tmp_path / "mnli").mkdir()
    pd.DataFrame(
        {
            "premise": list("abcd"),
            "hypothesis": list("efgh"),
            "label": labels,
            "genre": ["fiction", "travel", "travel", "fiction"],
        }
    ).to_parquet(tmp_path / "mnli" / "train.parquet")
    with pytest.warns(UserWarning, match="Dropped 1 of 4 rows") as seen:
        split = load("mnli", "train", folder=tmp_path)
    assert seen[0].filename == __file__
    assert split.x[0].tolist() == ["a", "c", "d"]
    assert split.groups.row_names().tolist() == [
        "label=neutral, genre=fiction",
        "label=neutral, genre=travel",
        "label=contradiction, genre=fiction",
    ]


def test_multi_label_folder(tmp_path):
    (tmp_path / "tweet_emotion").mkdir()
    pd.DataFrame(
        {"text": ["a", "b"], "labels": [["joy", "anger"], []]}
    ).to_parquet(tmp_path / "tweet_emotion" / "train.parquet")
    split = load("tweet_emotion", "train", folder=tmp_path)
    on = [split.label_names[i] for i in split.y[0].nonzero()[0]]
    assert on == ["anger", "joy"] and split.y[1].sum() == 0
    assert split.y.dtype == "float32"


def test_hub(hub):
    asked = hub(nli([2, -1, 0], genre=["news", "fiction", "news"]))
    with pytest.warns(UserWarning, match="Dropped 1 of 3 rows"):
        split = load("mnli", "train")
    assert asked == [("nyu-mll/multi_nli", None, "train")]
    assert split.y.tolist() == [2, 0]
    assert split.groups.names == (
        "label=entailment, genre=news",
        "label=contradiction, genre=news",
    )


def test_hub_builds_the_stress_tests(hub):
    asked = hub(nli([0, 1, 2], genre=["news"] * 3))
    split = load("nli_stress", "negation")
    assert asked == [("nyu-mll/multi_nli", None, "validation_matched")]
    assert split.x[1].tolist() == [
        "It is late and false is not true.",
        "It is early and false is not true",
        "It rains and false is not true !",
    ]
    longer = load("nli_stress", "length_mismatch")
    assert longer.x[0][0] == ("It is 0 o'clock" + 5 * " and true is true" + ".")


def test_hub_columns_of_glue_and_multi_label(hub):
    data = datasets.Dataset.from_dict({"sentence": ["a"], "label": [1]})
    names = datasets.ClassLabel(names=["unacceptable", "acceptable"])
    hub(data.cast_column("label", names))
    assert load("cola", "train").groups.counts() == {"label=acceptable": 1}
    split = load("cola", "train")
    assert split.label_names[split.y[0]] == "acceptable"
    emotions = datasets.Sequence(
        datasets.ClassLabel(
            names=list(reversed(sources.SOURCES["go_emotions"].label_names))
        )
    )
    data = datasets.Dataset.from_dict({"text": ["a"], "labels": [[0, 27]]})
    hub(data.cast_column("labels", emotions))
    split = load("go_emotions", "train")
    on = {split.label_names[i] for i in split.y[0].nonzero()[0]}
    assert on == {"neutral", "admiration"}


def test_set_without_a_home(no_folder):
    with pytest.raises(ValueError, match="KERAS_DEBIAS_DATA"):
        load("is_cs", "addamod")


def test_offline(no_folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def load_dataset(*arguments, **options):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConnectionError, match="stanfordnlp/snli"):
        load("snli", "train")


def test_gives_up_on_a_hub_that_does_not_answer(no_folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sources, "HUB_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        api = functools.partial(
            huggingface_hub.HfApi,
            endpoint=f"http://127.0.0.1:{server.getsockname()[1]}",
        )
        monkeypatch.setattr(huggingface_hub, "HfApi", api)
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="folder="):
            load("snli", "train")
        assert time.monotonic() - start < 8


def test_real_sets(data_folder, tmp_path):
    """Every set in the folder loads, with the labels of the file."""
    if data_folder is None:
        (tmp_path / "sst2").mkdir()
        pd.DataFrame(
            {"text": ["good", "bad"], "label": ["positive", "negative"]}
        ).to_parquet(tmp_path / "sst2" / "train.parquet")
        data_folder = tmp_path
    loaded = 0
    for name, source in sources.SOURCES.items():
        for split in source.splits:
            if not sources.available(name, split, data_folder):
                continue
            path = data_folder / name / f"{split}.parquet"
            if not path.is_file():
                continue  # in parts: 50,000 images
            frame = pd.read_parquet(path)
            if len(frame) > 15_000 or (source.images and len(frame) > 1000):
                continue  # a second each
            found = load(name, split, data_folder)
            loaded += 1
            assert len(found) == len(frame)
            numbers = frame.get("label", pd.Series([""])).dtype.kind == "i"
            if source.y == "label" and not numbers:
                spelled = [found.label_names[i] for i in found.y]
                assert spelled == frame["label"].tolist()
            elif source.y == "labels":
                assert found.y.sum() == frame["labels"].map(len).sum()
    assert loaded > 0


def test_stress_tests_agree_with_the_folder(data_folder, hub):
    if data_folder is None:
        pairs = stress_test(
            Split((["A."], ["B."]), [0], label_names=["entailment"]),
            "word_overlap",
        )
        assert pairs.x[1].tolist() == ["B and true is true."]
        return
    matched = load("mnli", "validation_matched", data_folder)
    for kind in STRESS_TESTS:
        built = stress_test(matched, kind)
        there = load("nli_stress", kind, data_folder)
        for i in range(2):
            assert built.x[i].tolist() == there.x[i].tolist()
