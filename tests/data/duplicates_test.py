"""Repeated inputs: counted, and never on both sides of a division."""

import numpy as np
import pytest

from keras_debias.data import OverlappingGroups
from keras_debias.data import Split
from keras_debias.data import duplicates
from keras_debias.data.duplicates import content_folds
from keras_debias.data.duplicates import content_keys


def test_counts_within_and_between():
    train = Split(["It rains.", "A dog.", "a  DOG."], ["no", "yes", "no"])
    test = Split(["it rains.", "A cat.", "A cat."], ["No", "yes", "yes"])
    other = Split(["None of these."], ["no"])
    found = duplicates({"train": train, "test": test, "other": other})
    lines = {
        (line.first, line.second): (line.rows, line.conflicting)
        for line in found.rename(columns={"first": "first"}).itertuples()
    }
    assert lines == {
        ("train", "train"): (1, 1),
        ("train", "test"): (1, 0),
        ("test", "test"): (1, 0),
        ("other", "other"): (0, 0),
    }
    shares = found.set_index(["first", "second"])["share"]
    assert shares["train", "test"] == pytest.approx(1 / 3)


def test_pairs_and_arrays():
    pairs = Split((["a", "a", "b"], ["x", "y", "x"]), [0, 1, 0])
    assert duplicates(pairs)["rows"].tolist() == [0]
    assert len(set(content_keys((np.array(["a", "a"], object),)))) == 1
    numbers = Split(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), [0, 1, 1])
    found = duplicates(numbers)
    assert found["rows"].tolist() == [1] and found["conflicting"].tolist() == [
        1
    ]
    named = Split({"b": [1, 1], "a": [2, 2]}, [0, 0])
    assert duplicates(named)["rows"].tolist() == [1]
    with pytest.raises(TypeError, match="dict"):
        duplicates([pairs])
    with pytest.raises(ValueError, match="at least one"):
        duplicates({})


def repeated(n=120, copies=3):
    texts = [f"text {i // copies}" for i in range(n)]
    return Split(texts, (np.arange(n) // copies) % 2)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_partition_keeps_equal_rows_together(fraction):
    split = repeated()
    for seed in range(5):
        first, rest = split.partition(fraction, seed)
        assert not set(first.x) & set(rest.x)
        assert len(first) + len(rest) == 120
        assert abs(len(first) - fraction * 120) <= 6
        assert abs(first.y.mean() - 0.5) < 0.2
    again, _ = split.partition(fraction, 4)
    assert again.x.tolist() == first.x.tolist()
    with pytest.raises(ValueError, match="stay together"):
        Split(["a"] * 10, [0, 1] * 5).partition(0.5)


def test_folds_keep_equal_rows_together():
    split = repeated()
    held = []
    for fit, out in content_folds(split, 4):
        assert not set(split.x[fit]) & set(split.x[out])
        held += out.tolist()
    assert sorted(held) == list(range(120))
    distinct = Split([f"text {i}" for i in range(40)], [0, 1] * 20)
    sizes = [len(out) for _, out in content_folds(distinct, 4)]
    assert sizes == [10] * 4


def test_overlapping_groups():
    groups = OverlappingGroups({"a": [True, False, True], "b": [0, 0, 1]})
    assert groups.names == ("a", "b") and len(groups) == 3
    assert groups.counts() == {"a": 2, "b": 1}
    assert groups.row_names().tolist() == ["a", "", "a|b"]
    split = Split(list("xyz"), [0, 1, 1], groups=groups)
    assert split.take([2, 1]).groups.row_names().tolist() == ["a|b", ""]
    crossed = split.with_label_groups(
        {"a": [True, False, True]}, overlapping=True
    )
    assert crossed.groups.counts() == {"label=0, a": 1, "label=1, a": 1}
    for columns, error in (
        ({}, ValueError),
        ({"a|b": [True]}, ValueError),
        ({"a": ["x", "y"]}, TypeError),
        ({"a": [0, 2]}, TypeError),
        ({"a": [True], "b": [True, False]}, ValueError),
    ):
        with pytest.raises(error):
            OverlappingGroups(columns)
    with pytest.raises(ValueError, match="1 groups for 3 rows"):
        split.with_groups(OverlappingGroups({"a": [True]}))


@pytest.mark.parametrize(
    ("one", "other"),
    [("int64", "int32"), ("float32", "float64"), ("uint8", "float32")],
)
def test_numbers_are_equal_whatever_their_dtype(one, other):
    x = np.array([[1, 2], [3, 4], [5, 0]])
    factor = 0.5 if "float" in one else 1
    train = Split((x * factor).astype(one))
    test = Split((x[[2, 0]] * factor).astype(other))
    found = duplicates({"train": train, "test": test})
    assert found["rows"].tolist() == [0, 2, 0]


def test_zero_has_one_sign():
    x = np.array([[0.0, 2.5], [-0.0, 2.5], [np.nan, 2.5]])
    assert content_keys(x).tolist() == [0, 0, 1]
    big = np.array([[2**60], [2**60 + 1], [-1], [255]])
    assert content_keys(big).tolist() == [0, 1, 2, 3]


def test_large_integers_are_equal_as_floats_and_differ_by_one():
    x = np.array([[1000], [2**60], [2**60 + 1]])
    found = duplicates({"train": Split(x), "test": Split(x[:1] * 1.0)})
    assert found["rows"].tolist() == [0, 1, 0]
    others = duplicates({"train": Split(x[1:]), "test": Split(x[:1])})
    assert others["rows"].sum() == 0
