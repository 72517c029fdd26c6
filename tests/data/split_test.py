import pickle

import numpy as np
import pandas as pd
import pytest

from keras_debias.data import Groups
from keras_debias.data import Split

NLI = ("entailment", "neutral", "contradiction")


@pytest.fixture
def pairs():
    return Split(
        (["p0", "p1", "p2", "p3"], ["h0", "h1", "h2", "h3"]),
        ["neutral", "entailment", "contradiction", "neutral"],
        groups={"genre": ["fiction", "news", None, "news"]},
        label_names=NLI,
        sample_weight=[1, 2, 0, 1],
        name="pairs",
    )


def test_strings_become_int32_labels(pairs):
    assert pairs.y.dtype == np.int32
    assert pairs.y.tolist() == [1, 0, 2, 1]
    assert pairs.groups.names == ("genre=fiction", "genre=news", "genre=none")
    assert pairs.groups.ids.tolist() == [0, 1, 2, 1]
    assert pairs.sample_weight.dtype == np.float32
    assert len(pairs) == 4
    assert "pairs" in repr(pairs)


def test_label_names_default_to_sorted():
    split = Split(["a", "b", "c"], ["x", "b", "x"])
    assert split.label_names == ("b", "x")
    assert split.y.tolist() == [1, 0, 1]


def test_kinds_of_inputs():
    array = Split(np.zeros((3, 2)), [0, 1, 0])
    assert array.x.shape == (3, 2) and array.label_names is None
    named = Split({"a": np.zeros(2), "b": np.ones((2, 3))}, [0.5, 1.5])
    assert len(named) == 2 and named.y.dtype == np.float64
    assert Split(pd.Series(["a", "b"])).x.tolist() == ["a", "b"]
    assert Split(np.array(["a", "b"])).x.dtype == object


def test_immutable_and_picklable(pairs):
    with pytest.raises(AttributeError, match="immutable"):
        pairs.y = None
    with pytest.raises(AttributeError, match="immutable"):
        pairs.groups.ids = None
    again = pickle.loads(pickle.dumps(pairs))
    np.testing.assert_array_equal(again.y, pairs.y)
    assert again.groups.names == pairs.groups.names


def test_labels_are_copied():
    y = np.array([0, 1])
    split = Split(["a", "b"], y)
    y[0] = 1
    assert split.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (dict(x=[]), ValueError, "at least one row"),
        (dict(x=None), TypeError, "x=None"),
        (dict(x="text"), TypeError, "Pass a list"),
        (dict(x=("a", "b")), TypeError, "premises, hypotheses"),
        (dict(x=(["a"], ["b", "c"])), ValueError, r"x\[0\]: 1, x\[1\]: 2"),
        (dict(x={}), ValueError, "at least one array"),
        (dict(x={"a": [1], "b": [1, 2]}), ValueError, "same number of rows"),
        (dict(x=["a", None]), TypeError, "None .* in row 1"),
        (dict(x=["a", 3]), TypeError, "3 .* in row 1"),
        (dict(x=[["a", "b"], ["c", "d"]]), TypeError, "tuple of two lists"),
        (dict(x=[[1, 2], [3]]), ValueError, "one shape"),
        (dict(x=["a", "b"], y=[0]), ValueError, r"`y` .*\(2\)"),
        (dict(x=["a"], y=[float("nan")]), ValueError, "1 of 1 rows"),
        (dict(x=["a"], y=["p"], label_names=NLI), ValueError, "'p'"),
        (dict(x=["a"], y=[3], label_names=NLI), ValueError, "from 3 to 3"),
        (dict(x=["a"], y=[-1], label_names=NLI), ValueError, "gold label"),
        (dict(x=["a"], y=[1.5], label_names=NLI), TypeError, "astype"),
        (dict(x=["a"], y=[1.0], label_names=NLI), TypeError, "astype"),
        (dict(x=["a"], y=[[1, 0]], label_names=NLI), ValueError, r"\(1, 2\)"),
        (dict(x=["a"], y=["b"], label_names="b"), TypeError, "sequence"),
        (dict(x=["a"], y=["b"], label_names=("b", "b")), ValueError, "once"),
        (dict(x=["a", "b"], y=["b", 3]), TypeError, "3 .*among strings"),
        (dict(x=["a", "b"], y=[0, -2]), ValueError, "from -2 to 0"),
        (dict(x=["a", "b"], y=[1, -1]), ValueError, "-1 and 1"),
        (dict(x=["a", "b"], y=[0, 2**40]), ValueError, "Recode"),
        (dict(x=["a", "b"], y=[0, np.inf]), ValueError, "infinity in 1 of 2"),
        (dict(x=(["a"], [7])), TypeError, "007"),
        (
            dict(x=["a", "b"], y=[1, 2], label_names=("1", "2", "3")),
            ValueError,
            "indices or names",
        ),
        (dict(x=["a"], groups=["g", "h"]), ValueError, "2 groups for 1 rows"),
        (dict(x=["a"], groups=[0.5]), TypeError, "0.5"),
        (dict(x=["a"], groups={}), ValueError, "at least one column"),
        (dict(x=["a"], sample_weight=[-1]), ValueError, "1 of 1 values"),
        (dict(x=["a"], sample_weight=[np.nan]), ValueError, "1 of 1 values"),
        (dict(x=["a"], sample_weight=[1, 2]), ValueError, "`sample_weight`"),
        (dict(x=["a"], name=3), TypeError, "name=3"),
    ],
)
def test_bad_input(arguments, error, match):
    with pytest.raises(error, match=match):
        Split(**arguments)


def test_from_csv(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        "premise,hypothesis,label,genre,w\n"
        '"One, two",NA,neutral,news,1\n'
        "None,b,entailment,,0.5\n"
    )
    split = Split.from_csv(
        path,
        x=("premise", "hypothesis"),
        y="label",
        groups=("label", "genre"),
        label_names=NLI,
        sample_weight="w",
    )
    # only an empty cell is missing
    assert split.x[0].tolist() == ["One, two", "None"]
    assert split.x[1].tolist() == ["NA", "b"]
    assert split.y.tolist() == [1, 0]
    assert set(split.groups.names) == {
        "label=neutral, genre=news",
        "label=entailment, genre=none",
    }
    assert split.sample_weight.tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match=r"\['text'\].*'premise'"):
        Split.from_csv(path, x="text")
    with pytest.raises(ValueError, match="1 in 'genre'"):
        Split.from_csv(path, x="genre", y="label")


def test_from_csv_options(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\nhello\t1\nbye\t0\n")
    split = Split.from_csv(
        path, x="text", y="label", label_names=("no", "yes"), sep="\t"
    )
    assert split.y.tolist() == [1, 0] and split.label_names == ("no", "yes")


def test_group_by_integer_label_uses_its_names():
    frame = pd.DataFrame({"text": ["a", "b"], "label": [1, 0]})
    split = Split.from_pandas(
        frame, "text", "label", groups="label", label_names=("no", "yes")
    )
    assert split.groups.names == ("label=no", "label=yes")
    assert split.groups.ids.tolist() == [1, 0]


def test_from_dataset():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["yes", "no"]),
        kind=datasets.ClassLabel(names=["long", "short"]),
        tags=datasets.Sequence(datasets.ClassLabel(names=["a", "b", "c"])),
    )
    data = datasets.Dataset.from_dict(
        {
            "text": ["one", "two", "three"],
            "label": [1, -1, 0],
            "kind": [0, 1, 1],
            "tags": [[0, 2], [], [1]],
        },
        features=features,
    )
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        split = Split.from_dataset(data, "text", "label", groups="kind")
    assert split.x.tolist() == ["one", "three"]
    assert split.y.tolist() == [1, 0] and split.label_names == ("yes", "no")
    assert split.groups.names == ("kind=long", "kind=short")
    tags = Split.from_dataset(data, "text", "tags")
    assert tags.y.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(TypeError, match="train"):
        Split.from_dataset(datasets.DatasetDict(train=data), "text")
    with pytest.raises(ValueError, match="absent"):
        Split.from_dataset(data, "absent")
    with pytest.raises(ValueError, match="gold label"):
        Split.from_dataset(data.select([1]), "text", "label")


def test_take(pairs):
    taken = pairs.take([3, 0])
    assert taken.x[1].tolist() == ["h3", "h0"]
    assert taken.y.tolist() == [1, 1]
    assert taken.groups.ids.tolist() == [1, 0]
    assert taken.groups.names == pairs.groups.names
    masked = pairs.take(pairs.y == 1)
    assert masked.x[0].tolist() == ["p0", "p3"]
    with pytest.raises(TypeError, match="indices"):
        pairs.take([0.5])


def test_sample_is_seeded_and_balanced():
    y = np.repeat([0, 1, 2], [100, 20, 3])
    split = Split(np.arange(123), y, groups=y % 2)
    sample = split.sample(30, seed=4)
    assert sample.x.tolist() == split.sample(30, seed=4).x.tolist()
    assert sample.x.tolist() != split.sample(30, seed=5).x.tolist()
    assert len(set(sample.x.tolist())) == 30
    balanced = split.sample(43, balance_labels=True)
    assert np.bincount(balanced.y).tolist() == [20, 20, 3]
    balanced = split.sample(20, balance_groups=True)
    assert np.bincount(balanced.groups.ids).tolist() == [10, 10]
    assert len(split.sample(123, balance_labels=True)) == 123
    with pytest.raises(ValueError, match="n=124"):
        split.sample(124)
    with pytest.raises(ValueError, match="Only one"):
        split.sample(5, balance_labels=True, balance_groups=True)
    with pytest.raises(ValueError, match="needs groups"):
        split.with_groups(None).sample(5, balance_groups=True)


def test_partition_is_stratified():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    split = Split(np.arange(160), y)
    first, rest = split.partition(0.1, seed=3)
    assert np.bincount(first.y).tolist() == [10, 5, 1]
    both = np.concatenate([first.x, rest.x])
    assert sorted(both.tolist()) == list(range(160))
    again, _ = split.partition(0.1, seed=3)
    assert again.x.tolist() == first.x.tolist()
    for fraction in (0, 1, 0.001, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            split.partition(fraction)


def test_align_labels():
    split = Split(
        ["a", "b", "c"], ["Not Entailment", "entailment"] * 1 + ["entailment"]
    )
    aligned = split.align_labels(["entailment", "non-entailment"])
    assert aligned.y.tolist() == [1, 0, 0]
    assert aligned.label_names == ("entailment", "non-entailment")
    with pytest.raises(ValueError, match="'neutral'.*'Not Entailment'"):
        split.align_labels(NLI)
    multi = Split(["a"], np.array([[1.0, 0.0]]), label_names=("x", "y"))
    assert multi.align_labels(("z", "y", "x")).y.tolist() == [[0, 0, 1]]


def test_with_label_groups(pairs):
    grouped = pairs.with_label_groups({"odd": [False, True, False, True]})
    assert grouped.groups.counts() == {
        "label=entailment, odd=yes": 1,
        "label=neutral, odd=no": 1,
        "label=neutral, odd=yes": 1,
        "label=contradiction, odd=no": 1,
    }
    with pytest.raises(ValueError, match="integer label"):
        Split(["a"]).with_label_groups()


def test_groups():
    groups = Groups.from_columns({"a": [1, 10, 2], "b": [True, False, None]})
    assert groups.names == ("a=1, b=yes", "a=2, b=none", "a=10, b=no")
    assert groups.shares()["a=10, b=no"] == pytest.approx(1 / 3)
    literal = Groups.from_columns({"a": ["none", None, "x"]})
    assert literal.counts() == {"a=none": 2, "a=x": 1}
    assert Groups.from_values([0, 1, 0]).names == ("group=0", "group=1")
    assert Groups.from_values(["x", "y", "x"]).ids.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="lengths"):
        Groups.from_columns({"a": [1], "b": [1, 2]})
    with pytest.raises(ValueError, match="indices into"):
        Groups([0, 2], ["a", "b"])
    with pytest.raises(ValueError, match="more than once"):
        Groups([0, 1], ["a", "a"])
    with pytest.raises(TypeError, match="integers"):
        Groups([0.0], ["a"])


class TestGroupsOfAFile:
    """`by_label` and `overlapping`: against groups counted by pandas."""

    @pytest.fixture
    def frame(self):
        generator = np.random.default_rng(0)
        return pd.DataFrame(
            {
                "text": [f"text {i}" for i in range(40)],
                "label": generator.choice(["no", "yes", "-"], 40),
                "place": generator.choice(["here", "there"], 40),
                "female": generator.integers(0, 2, 40),
                "muslim": generator.integers(0, 2, 40),
            }
        )

    def read(self, frame, tmp_path, groups, **options):
        frame.to_csv(tmp_path / "a.csv", index=False)
        with pytest.warns(UserWarning, match="label"):  # the "-"
            return Split.from_csv(
                tmp_path / "a.csv", "text", "label", groups, **options
            )

    def test_by_label(self, frame, tmp_path):
        split = self.read(frame, tmp_path, ("place", "female"), by_label=True)
        kept = frame[frame["label"] != "-"]
        expected = kept.groupby(["label", "place", "female"]).size()
        assert split.groups.counts() == {
            f"label={label}, place={place}, female={female}": n
            for (label, place, female), n in expected.items()
        }
        names = [
            f"label={a}, place={b}, female={c}"
            for a, b, c in zip(kept["label"], kept["place"], kept["female"])
        ]
        assert split.groups.row_names().tolist() == names

    def test_overlapping(self, frame, tmp_path):
        columns = ("female", "muslim")
        kept = frame[frame["label"] != "-"]
        split = self.read(frame, tmp_path, columns, overlapping=True)
        assert split.groups.counts() == kept[[*columns]].sum().to_dict()
        both = self.read(
            frame, tmp_path, columns, overlapping=True, by_label=True
        )
        sums = kept.groupby("label")[[*columns]].sum()
        assert both.groups.counts() == {
            f"label={label}, {column}": sums.loc[label, column]
            for label in ("no", "yes")
            for column in columns
        }

    def test_a_frame_of_attributes(self, frame):
        split = Split(frame["text"].tolist(), frame["place"].tolist())
        named = split.with_label_groups(frame[["female", "muslim"]])
        columns = {name: frame[name] for name in ("female", "muslim")}
        expected = split.with_label_groups(columns)
        assert named.groups.counts() == expected.groups.counts()

    @pytest.mark.parametrize(
        ("groups", "options", "match"),
        [
            ((), {"by_label": True}, "columns of groups"),
            ((), {"overlapping": True}, "columns of groups"),
            ("label", {"by_label": True}, "without the label"),
            ("place", {"by_label": "yes"}, "by_label"),
            ("place", {"overlapping": True}, "booleans"),
        ],
    )
    def test_refuses(self, frame, groups, options, match):
        frame = frame[frame["label"] != "-"]
        with pytest.raises((TypeError, ValueError), match=match):
            Split.from_pandas(frame, "text", "label", groups, **options)
        with pytest.raises(ValueError, match="labels"):
            Split.from_pandas(frame, "text", None, "place", by_label=True)
