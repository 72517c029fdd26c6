"""`skew`: what is drawn, and what is refused."""

import numpy as np
import pytest

import keras_debias as kd


def pool(rows=400, seed=0):
    """Rows with a label, an attribute, and a number that identifies them."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, rows)
    place = np.where(generator.random(rows) < 0.5, "land", "water")
    split = kd.data.Split(
        np.arange(rows, dtype="float32")[:, None],
        y.astype("int32"),
        label_names=("cat", "dog"),
    )
    return split, place


@pytest.mark.parametrize("strength", [0.5, 0.8, 0.95, 1.0])
def test_shares_are_those_asked_for(strength):
    split, place = pool()
    label = {"cat": "land", "dog": "water"}
    drawn = kd.data.skew(split, {"place": place}, label, strength, n=100)
    rows = drawn.x[:, 0].astype(int)
    assert len(set(rows)) == 100
    np.testing.assert_array_equal(drawn.y, split.y[rows])
    own = np.where(drawn.y == 0, place[rows] == "land", place[rows] == "water")
    assert own.mean() == pytest.approx(strength, abs=0.011)
    assert np.bincount(drawn.y).tolist() == [50, 50]
    names = np.array(drawn.groups.names)[drawn.groups.ids]
    for name, row in zip(names, rows, strict=True):
        assert name.endswith(f"place={place[row]}")


def test_seeds_decide_the_rows_and_nothing_else_does():
    split, place = pool()
    state = np.random.get_state()[1].copy()
    draws = [
        kd.data.skew(split, {"place": place}, n=100, seed=seed).x.ravel()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert set(draws[0]) != set(draws[2])


def test_groups_of_the_split_serve_as_the_attribute():
    split, place = pool()
    grouped = split.with_label_groups({"place": place})
    first = kd.data.skew(grouped, n=80, strength=0.9)
    second = kd.data.skew(split, {"place": place}, n=80, strength=0.9)
    np.testing.assert_array_equal(first.x, second.x)
    assert first.groups.counts() == second.groups.counts()


def test_without_n_the_smallest_cell_decides():
    split, place = pool()
    drawn = kd.data.skew(split, {"place": place}, strength=0.9)
    grouped = split.with_label_groups({"place": place}).groups
    sizes = grouped.counts()
    shares = drawn.groups.counts()
    assert all(shares[name] <= sizes[name] for name in shares)
    with pytest.raises(ValueError, match=rf"at most {len(drawn)} "):
        kd.data.skew(split, {"place": place}, strength=0.9, n=len(drawn) + 4)


def test_three_values_share_what_is_left():
    y = np.repeat([0, 1, 2], 60).astype("int32")
    color = np.tile(np.repeat(["blue", "green", "red"], 20), 3)
    split = kd.data.Split(np.zeros((180, 1)), y)
    drawn = kd.data.skew(split, {"color": color}, strength=0.5, n=60)
    table = np.zeros((3, 3), int)
    for name, count in drawn.groups.counts().items():
        label = int(name[6])
        value = ("blue", "green", "red").index(name.split("color=")[1])
        table[label, value] = count
    np.testing.assert_array_equal(table, 5 + 5 * np.eye(3, dtype=int))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"strength": 1.5}, ValueError, "strength=1.5"),
        ({"strength": "high"}, TypeError, "strength='high'"),
        ({"n": 0}, ValueError, "n=0"),
        ({"n": 2.5}, TypeError, "n=2.5"),
        ({"n": 400}, ValueError, "label 'cat' and place=.*Lower `n`"),
        ({"label": {"cat": "sea", "dog": "land"}}, ValueError, "'sea'"),
        ({"label": {"cow": "land"}}, ValueError, "'cow'"),
        ({"label": {"cat": "land"}}, ValueError, r"none for \['dog'\]"),
        ({"label": "cat"}, TypeError, "label='cat'"),
        ({"attribute": ["land"]}, ValueError, "400 rows. Received: 1"),
        ({"attribute": None}, ValueError, "attribute="),
        ({"attribute": {"a": [1], "b": [2]}}, ValueError, "one entry"),
        ({"attribute": ["land"] * 400, "label": None}, ValueError, "label="),
        ({"split": "rows"}, TypeError, "split=str"),
    ],
)
def test_wrong_calls(change, error, message):
    split, place = pool()
    arguments = {"split": split, "attribute": {"place": place}, **change}
    with pytest.raises(error, match=message):
        kd.data.skew(**arguments)
