import numpy as np
import pytest

from keras_debias.data import Split
from keras_debias.data import low_data

TABLE_17 = {
    "sst2": (1000, 5000, 11000),
    "rte": (300, 900, 1200),
    "qqp": (1000, 5000, 9000),
    "qnli": (1000, 5000, 9000),
    "mnli": (1000, 5000, 9000),
    "cola": (1710, 3420, 4275),
    "mrpc": (367, 1191, 1835),
    "stsb": (287, 1150, 2300),
}


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    y = rng.choice(["no", "perhaps", "yes"], 12000, p=[0.6, 0.29, 0.11])
    return Split(np.arange(12000), y)


@pytest.mark.parametrize("task", TABLE_17)
def test_sizes_are_exact_and_labels_keep_their_shares(split, task):
    exact = np.bincount(split.y) / len(split)
    for regime, size in zip(("low", "medium", "high"), TABLE_17[task]):
        small = low_data(split, task, regime)
        assert len(small) == len(set(small.x.tolist())) == size
        assert small.label_names == split.label_names
        np.testing.assert_allclose(np.bincount(small.y), size * exact, atol=1)
        np.testing.assert_array_equal(small.y, split.y[small.x])


def test_seed(split):
    one, again, other = (
        low_data(split, "rte", "low", seed=s) for s in (1, 1, 2)
    )
    assert one.x.tolist() == again.x.tolist() != sorted(one.x)
    assert set(one.x) != set(other.x)


def test_spelling_of_the_task(split):
    one = low_data(split, "sst2", "low")
    for name in ("SST-2", "SST2", "sst_2"):
        assert low_data(split, name, "low").x.tolist() == one.x.tolist()


@pytest.mark.parametrize("y", [None, np.linspace(0, 5, 300)])
def test_without_classes(y):
    assert len(low_data(Split(np.arange(300), y), "STS-B", "low")) == 287


def test_the_whole_set():
    split = Split(np.arange(1000), np.arange(1000) % 7)
    assert sorted(low_data(split, "sst2", "low").x) == list(range(1000))


@pytest.mark.parametrize("task", ["wnli", "", None, 2])
def test_unknown_task(split, task):
    with pytest.raises(ValueError, match="one of .*'sst2'.*'stsb'.*Received"):
        low_data(split, task, "low")


@pytest.mark.parametrize("regime", ["all", "Low", None])
def test_unknown_regime(split, regime):
    with pytest.raises(ValueError, match="'low', 'medium', 'high'.*Received"):
        low_data(split, "rte", regime)


def test_regime_larger_than_the_set(split):
    small = split.take(np.arange(1000))
    with pytest.raises(ValueError, match=r"1200 rows.* has 1000.*'medium'"):
        low_data(small, "rte", "high")
    with pytest.raises(ValueError, match=r"1710 rows.* has 1000.*sample"):
        low_data(small, "cola", "low")


def test_not_a_split():
    with pytest.raises(TypeError, match="Split`.*Received: list"):
        low_data(["a"], "rte", "low")
