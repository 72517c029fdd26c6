"""Inputs that are easily read otherwise than meant: said or refused."""

import numpy as np
import pandas as pd
import pytest

import keras_debias as kd

TEXTS = ["It rains.", "It snows.", "A dog.", "A cat."]


def test_values_of_one_name_are_one_group():
    split = kd.data.Split(TEXTS, [0, 1, 0, 1])
    groups = split.with_groups({"a": [1, "1", 2, None]}).groups
    assert groups.counts() == {"a=1": 2, "a=2": 1, "a=none": 1}


def test_booleans_of_numpy_among_objects_are_overlapping_groups():
    on = np.array([np.True_, np.False_, True], dtype=object)
    assert kd.data.OverlappingGroups({"a": on}).counts() == {"a": 2}


def test_masked_labels_are_missing():
    y = np.ma.array([0, 1, 1, 0], mask=[0, 0, 1, 0])
    with pytest.warns(UserWarning, match=r"Dropped 1 of 4 rows .* \(NaN in"):
        split = kd.data.Split(TEXTS, y)
    assert split.y.tolist() == [0, 1, 0]
    assert list(split.x) == [TEXTS[0], TEXTS[1], TEXTS[3]]
    words = np.ma.array(["no", "yes", "yes", "no"], mask=[0, 0, 1, 0])
    with pytest.warns(UserWarning, match="Dropped 1 of 4 rows"):
        split = kd.data.Split(TEXTS, words)
    assert split.label_names == ("no", "yes") and len(split) == 3


@pytest.mark.parametrize("part", ["x", "sample_weight"])
def test_masked_numbers_are_refused(part):
    parts = {"x": np.ones(4), "y": [0, 1, 0, 1], "sample_weight": np.ones(4)}
    parts[part] = np.ma.array(parts[part], mask=[0, 1, 0, 0])
    with pytest.raises(ValueError, match=f"`{part}` to have no masked"):
        kd.data.Split(**parts)


@pytest.mark.parametrize("names", [{"a", "b"}, {"b": 1, "a": 0}])
def test_label_names_have_an_order(names):
    with pytest.raises(TypeError, match="whose order may be another"):
        kd.data.Split(TEXTS, ["a", "b", "a", "b"], label_names=names)


@pytest.mark.parametrize("part", ["y", "groups", "sample_weight", "dict"])
def test_series_in_another_order(part):
    """Rows are taken by position, and pandas aligns them by index."""
    index = [3, 2, 1, 0]
    parts = {
        "x": pd.Series(TEXTS, index=index),
        "y": pd.Series([0, 1, 1, 0], index=index),
        "groups": pd.Series(["p", "q", "p", "q"], index=index),
        "sample_weight": pd.Series(np.ones(4), index=index),
    }
    assert kd.data.Split(**parts).y.tolist() == [0, 1, 1, 0]
    if part == "dict":
        parts["groups"] = {"a": parts["groups"].sort_index()}
    else:
        parts[part] = parts[part].sort_index()
    with pytest.raises(ValueError, match="rows in one order"):
        kd.data.Split(**parts)
    # Another index is another numbering, not another order.
    parts["groups"] = None
    parts["y"] = pd.Series([0, 1, 1, 0], index=[7, 8, 9, 10])
    parts["sample_weight"] = None
    assert kd.data.Split(**parts).y.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["0", "0.0", "1", "1.0"], ("0", "1")),
        (["no", "no\u200b", "yes", "yes"], ("no", "yes")),
    ],
)
def test_spellings_of_one_label(labels, names):
    with pytest.warns(UserWarning, match="spells one label in several ways"):
        split = kd.data.Split(TEXTS, labels)
    assert split.label_names == names
    assert split.y.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("labels", [["-2", "2"], ["1", "01"], ["1", "10"]])
def test_numbers_that_differ_are_classes(labels):
    split = kd.data.Split(TEXTS, labels * 2)
    assert split.label_names == tuple(sorted(labels))


def test_spellings_of_one_group_are_said():
    with pytest.warns(UserWarning, match=r"'groups' spells one group .*'f'"):
        split = kd.data.Split(TEXTS, groups=["F", "f", "m", "m"])
    assert split.groups.names == ("F", "f", "m")


def test_whole_groups_beside_missing_ones(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,age\na,yes,1\nb,no,\nc,yes,2\n")
    split = kd.data.Split.from_csv(path, "text", "label", "age")
    assert split.groups.counts() == {"age=1": 1, "age=2": 1, "age=none": 1}


def test_the_label_is_no_input(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,yes\nb,no\n")
    with pytest.raises(ValueError, match="would read the answer"):
        kd.data.Split.from_csv(path, ("text", "label"), "label")
