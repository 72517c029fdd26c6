"""Labels and files that are easily misread: the right value, or the reason."""

import csv
import gzip
import re

import numpy as np
import pandas as pd
import pytest

from keras_debias.data import Split
from keras_debias.data.labels import normalize_label

MISSING = ("-", "NA", "nan", "NULL", "\\N", "None", "", " n/a ", "-1")


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def from_csv(path, labels):
    """The same labels by four ways."""
    lines = [f"text {i},{label}" for i, label in enumerate(labels)]
    write(path, "text,label\n" + "\n".join(lines) + "\n")
    return Split.from_csv(path, x="text", y="label")


def from_pandas(path, labels):
    texts = [f"text {i}" for i in range(len(labels))]
    frame = pd.DataFrame({"text": texts, "label": labels})
    return Split.from_pandas(frame, x="text", y="label")


def from_dataset(path, labels):
    datasets = pytest.importorskip("datasets")
    texts = [f"text {i}" for i in range(len(labels))]
    data = datasets.Dataset.from_dict({"text": texts, "label": labels})
    return Split.from_dataset(data, x="text", y="label")


def from_lists(path, labels):
    return Split([f"text {i}" for i in range(len(labels))], labels)


WAYS = (from_csv, from_pandas, from_dataset, from_lists)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", MISSING)
def test_missing_labels_are_dropped_and_counted(way, word, tmp_path):
    with pytest.warns(UserWarning, match="Dropped 1 of 4 rows"):
        split = way(tmp_path / "a.csv", ["no", "yes", word, "yes"])
    assert split.label_names == ("no", "yes")
    assert split.y.tolist() == [0, 1, 1]
    assert split.x.tolist() == ["text 0", "text 1", "text 3"]


@pytest.mark.parametrize("word", ["-", "NA", "nan", "\\N", ""])
def test_a_missing_integer_leaves_integers(word, tmp_path):
    spelled = re.escape(repr(word)) if word else "NaN"
    with pytest.warns(UserWarning, match=rf"1 of 4 rows .*\({spelled} in"):
        split = from_csv(tmp_path / "a.csv", ["0", "1", word, "1"])
    assert split.y.tolist() == [0, 1, 1] and split.label_names is None
    assert split.y.dtype == np.int32


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, -1, 1],
        [0, 1, None, 1],
        [0.0, 1.0, np.nan, 1.0],
        pd.array([0, 1, None, 1], dtype="Int64"),
    ],
)
@pytest.mark.parametrize("way", [from_pandas, from_lists])
def test_missing_numbers(way, labels):
    with pytest.warns(UserWarning, match="Dropped 1 of 4 rows"):
        split = way(None, labels)
    assert split.y.tolist() == [0, 1, 1] and split.y.dtype == np.int32


def test_all_parts_lose_the_same_rows():
    with pytest.warns(UserWarning, match="Dropped 2 of 4 rows"):
        split = Split(
            (list("abcd"), list("efgh")),
            ["-", "yes", "no", None],
            groups={"g": list("wxyz")},
            sample_weight=[1, 2, 3, 4],
        )
    assert [part.tolist() for part in split.x] == [["b", "c"], ["f", "g"]]
    assert split.groups.ids.tolist() == [1, 2]
    assert split.sample_weight.tolist() == [2, 3]
    # What is named as a class is one.
    named = Split(["a", "b"], ["none", "some"], label_names=("none", "some"))
    assert named.y.tolist() == [0, 1]
    with pytest.raises(ValueError, match="No row has a gold label: all 2"):
        Split(["a", "b"], [-1, -1])
    frame = pd.DataFrame({"t": ["a", "b", "c"], "y": ["no", "-", "yes"]})
    with pytest.warns(UserWarning, match="1 of 3"):
        split = Split.from_pandas(frame, x="t", y="y", groups="y")
    assert split.groups.names == ("y=no", "y=yes")


def test_spellings_of_one_label():
    y = ["Toxic", "toxic", "toxic", "TOXIC ", "non-toxic", "not toxic"]
    with pytest.warns(UserWarning, match="'TOXIC ' .1 rows.*label_names"):
        split = Split(list("abcdef"), y)
    # As many classes as `evaluate` tells apart, with the usual spelling.
    assert len({normalize_label(name) for name in y}) == 2
    assert split.label_names == ("non-toxic", "toxic")
    assert split.y.tolist() == [1, 1, 1, 1, 0, 0]
    known = Split(list("abcdef"), y, label_names=("toxic", "not toxic"))
    assert known.y.tolist() == [0, 0, 0, 0, 1, 1]
    # Both spelled exactly: they stay apart, and a third is a guess.
    apart = Split(["a", "b"], ["A", "a"], label_names=("a", "A"))
    assert apart.y.tolist() == [1, 0]
    with pytest.raises(ValueError, match="not in `label_names`"):
        Split(["a"], ["a "], label_names=("a", "A"))


def test_joined_negation():
    split = Split(["a", "b"], ["nonentailment", "entailment"])
    aligned = split.align_labels(("entailment", "not entailment"))
    assert aligned.y.tolist() == [1, 0]


def test_booleans_and_floats_are_said(tmp_path):
    assert Split(["a", "b"], [True, False]).label_names == ("False", "True")
    split = from_csv(tmp_path / "a.csv", ["True", "False", "True"])
    assert split.label_names == ("False", "True")
    assert split.y.tolist() == [1, 0, 1]
    with pytest.warns(UserWarning, match="False is 'bad' and True is 'good'"):
        Split(["a", "b"], [True, False], label_names=("bad", "good"))
    with pytest.warns(UserWarning, match="targets of a regression"):
        split = Split(["a", "b"], [0.0, 1.0])
    # Once: other rows of it are no new guess.
    assert split.take([0]).y.tolist() == [0.0]
    assert Split(["a", "b"], [0.5, 1.0]).y.tolist() == [0.5, 1.0]


def test_categories_keep_their_order():
    values = pd.Categorical(
        ["low", "high", "low"], ["low", "middle", "high"], ordered=True
    )
    split = Split(list("abc"), values)
    assert split.label_names == ("low", "middle", "high")
    assert split.y.tolist() == [0, 2, 0]
    frame = pd.DataFrame({"text": list("abc"), "label": values})
    again = Split.from_pandas(frame, x="text", y="label", groups="label")
    assert again.label_names == split.label_names
    assert again.groups.names == ("label=low", "label=high")
    plain = Split(list("abc"), values.as_unordered())
    assert plain.label_names == ("low", "high") and plain.y.tolist() == [
        0,
        1,
        0,
    ]
    named = Split(list("abc"), values, label_names=("high", "low"))
    assert named.y.tolist() == [1, 0, 1]


def test_names_of_image_files():
    with pytest.warns(UserWarning, match="names of image files"):
        split = Split(["a/b 1.JPG", "c.png"], [0, 1])
    assert len(split.take([0])) == 1
    assert len(Split(["See a.png", "It rains."], [0, 1])) == 2


@pytest.mark.parametrize("nested", [False, True])
def test_dataset_labels_are_mapped_by_name(nested):
    datasets = pytest.importorskip("datasets")
    ours = ("contradiction", "entailment", "neutral")
    names = ["entailment", "neutral", "contradiction"]
    label = datasets.ClassLabel(names=names)
    feature, values = label, [0, 1, 2]
    if nested:
        feature, values = datasets.Sequence(label), [[0], [1], [2]]
    data = datasets.Dataset.from_dict(
        {"text": names, "label": values},
        features=datasets.Features(
            {"text": datasets.Value("string"), "label": feature}
        ),
    )
    split = Split.from_dataset(data, "text", "label", label_names=ours)
    y = split.y.argmax(1) if nested else split.y
    assert [ours[i] for i in y] == split.x.tolist()
    with pytest.raises(ValueError, match="neutral"):
        Split.from_dataset(data, "text", "label", label_names=ours[:2])


def test_numbers_as_text(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "question,answer,label,code,size\n"
        "One plus one?,2,yes,007,3\nThree?,007,no,7,10\n",
    )
    split = Split.from_csv(path, x="answer", y="label")
    assert split.x.tolist() == ["2", "007"]
    pair = Split.from_csv(path, x=("question", "answer"), y="label")
    assert pair.x[1].tolist() == ["2", "007"]
    # Codes are no numbers, neither as labels nor as groups.
    codes = Split.from_csv(path, x="question", y="code", groups="code")
    assert codes.label_names == ("007", "7")
    assert codes.groups.names == ("code=007", "code=7")
    sized = Split.from_csv(path, x="question", y="size", groups="size")
    assert sized.y.tolist() == [3, 10] and sized.label_names is None
    assert sized.groups.names == ("size=3", "size=10")
    numbers = Split.from_csv(path, x="answer", dtype={"answer": int})
    assert numbers.x.tolist() == [2, 7]


def test_columns_that_are_there_twice(tmp_path):
    frame = pd.DataFrame([["a", "b", 0]], columns=["text", "text", "label"])
    with pytest.raises(ValueError, match=r"more than one column \['text'\]"):
        Split.from_pandas(frame, x="text", y="label")
    path = write(tmp_path / "a.csv", "text,text,label\na,b,no\nc,d,yes\n")
    with pytest.raises(ValueError, match=r"a\.csv.*more than one.*'text'"):
        Split.from_csv(path, x="text", y="label")


def rows(separator, marks, n=40):
    """Lines of which some begin with a quotation mark."""
    lines = [separator.join(("sentence1", "sentence2", "label"))]
    for i in range(n):
        start = '"' if i in marks else ""
        label = ("yes", "no")[i % 2]
        lines.append(
            separator.join((f"{start}premise {i}", f"hypothesis {i}", label))
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("marks", [(10, 30), (10, 11), (10,), (39,)])
def test_quotation_marks_lose_no_row(separator, marks, tmp_path):
    path = write(tmp_path / "pairs.txt", rows(separator, marks))
    options = dict(x=("sentence1", "sentence2"), y="label", sep=separator)
    with pytest.raises(
        ValueError, match=rf"pairs\.txt.*lines {marks[0] + 2}\..*QUOTE_NONE"
    ):
        Split.from_csv(path, **options)
    split = Split.from_csv(path, **options, quoting=csv.QUOTE_NONE)
    assert len(split) == 40 and split.x[0][marks[0]].startswith('"premise')


def test_closing_marks_elsewhere_lose_no_row(tmp_path):
    text = rows("\t", ()).replace("\tpremise", "")
    text = text.replace("premise 3\t", '"premise 3\t')
    text = text.replace("premise 20\t", 'premise 20"\t')
    path = write(tmp_path / "pairs.tsv", text)
    with pytest.raises(ValueError, match="lines 5"):
        Split.from_csv(path, x=("sentence1", "sentence2"), y="label", sep="\t")


def test_sound_quotation_is_read(tmp_path):
    frame = pd.DataFrame(
        {
            "text": [
                'He said "no", twice',
                "two\nlines, with\na comma",
                "c\td",
            ],
            "label": ["a", "b", "a"],
        }
    )
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        frame.to_csv(tmp_path / name, sep=separator, index=False)
        split = Split.from_csv(
            tmp_path / name, x="text", y="label", sep=separator
        )
        assert split.x.tolist() == frame["text"].tolist()


def test_other_encodings(tmp_path):
    text = "text,label\ncafé,no\nthé,yes\n"
    for encoding, hint in (
        ("cp1252", "encoding='cp1252'"),
        ("utf-16", "encoding='utf-16'"),
        ("utf-16-le", "UTF-16|utf-16|cp1252"),
    ):
        path = write(tmp_path / f"{encoding}.csv", text, encoding)
        with pytest.raises(ValueError, match=rf"{encoding}\.csv.*{hint}"):
            Split.from_csv(path, x="text", y="label")
        split = Split.from_csv(path, x="text", y="label", encoding=encoding)
        assert split.x.tolist() == ["café", "thé"]
    marked = write(tmp_path / "bom.csv", text, "utf-8-sig")
    assert Split.from_csv(marked, x="text", y="label").x[0] == "café"
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(text.encode())
    packed = Split.from_csv(tmp_path / "a.csv.gz", x="text", y="label")
    assert packed.x[0] == "café"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,no\nb,yes,more\n", r"a\.csv.*ragged.*line 3"),
        ("text,label\na,no,\nb,yes,\n", r"a\.csv.*more fields"),
        ("", r"a\.csv.*empty"),
    ],
)
def test_ragged_files(text, message, tmp_path):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match=message):
        Split.from_csv(path, x="text", y="label")


def test_integers_of_a_table_may_be_names(tmp_path):
    """3 and 8 cannot index two names, so they are the names."""
    path = tmp_path / "digits.csv"
    path.write_text("text,digit\na,8\nb,3\nc,8\n")
    split = Split.from_csv(path, "text", "digit", label_names=("3", "8"))
    assert split.y.tolist() == [1, 0, 1]
    crossed = Split.from_csv(
        path, "text", "digit", "text", label_names=("3", "8"), by_label=True
    )
    assert crossed.groups.names[0].startswith("label=3")
    # These could be either.
    path.write_text("text,digit\na,1\nb,0\n")
    with pytest.raises(ValueError, match="indices or names"):
        Split.from_csv(path, "text", "digit", label_names=("1", "0"))
    # And these are neither.
    path.write_text("text,digit\na,9\nb,3\n")
    with pytest.raises(ValueError, match="label_names"):
        Split.from_csv(path, "text", "digit", label_names=("3", "8"))
