import keras
import numpy as np
import pytest

from keras_debias.data import BalancedSampler
from keras_debias.data import CurriculumSampler
from keras_debias.data import Groups
from keras_debias.data import StratifiedBatchSampler
from keras_debias.data import WeightedSampler
from keras_debias.data.batches import Batches


def rng(seed=0):
    return np.random.default_rng(seed)


def test_balanced_draws_groups_equally_often():
    ids = np.repeat([0, 1, 3], [900, 90, 10])
    order = BalancedSampler(Groups(ids, list("abcd")))(rng())
    counts = np.bincount(ids[order], minlength=4)
    # Three standard deviations of a binomial.
    assert counts[2] == 0
    assert (abs(counts[[0, 1, 3]] - 1000 / 3) < 3 * np.sqrt(1000 * 2 / 9)).all()
    # Within a group all rows have the same chance.
    assert len(set(order[ids[order] == 3])) == 10
    with pytest.raises(ValueError, match="at least two groups"):
        BalancedSampler([1, 1])


def test_weighted_draws_in_proportion():
    order = WeightedSampler([0, 1, 3] * 1000)(rng())
    counts = np.bincount(order % 3, minlength=3) / 3000
    np.testing.assert_allclose(counts, [0, 0.25, 0.75], atol=0.03)
    with pytest.raises(ValueError, match="to be above zero"):
        WeightedSampler([0.0, 0.0])
    with pytest.raises(ValueError, match="not negative"):
        WeightedSampler([1.0, -1.0])


def test_quota_holds_in_every_batch():
    mask = np.arange(103) < 7
    order = StratifiedBatchSampler(mask, batch_size=10)(rng())
    assert len(order) == 103
    for start in range(0, 100, 10):
        # floor(7 / 103 * 10) + 1
        assert mask[order[start : start + 10]].sum() == 1
    outside = order[~mask[order]]
    assert len(set(outside)) == len(outside)
    with pytest.raises(ValueError, match="room"):
        StratifiedBatchSampler(np.arange(10) < 9, batch_size=4)


def test_curriculum_grows_from_easy_to_all():
    difficulty = rng(1).permutation(1000).astype(float)
    sampler = CurriculumSampler(difficulty, start=0.2, growth=2.0)
    first, second, third = (sampler(rng(), number) for number in range(3))
    assert difficulty[first[:10]].max() < 0.2 * 1000 + 10
    halfway = difficulty[first[-10:]].max()
    assert halfway < 0.6 * 1000 + 1
    limits = 1000 * (0.2 + 0.8 * (1000 + np.arange(1000)) / 2000)
    assert (difficulty[second] <= limits + 1).all()
    assert difficulty[third].mean() == pytest.approx(499.5, abs=40)
    with pytest.raises(ValueError, match="start=0"):
        CurriculumSampler([1.0], start=0)


def test_order_is_a_function_of_seed_and_pass():
    def passes(seed, epochs):
        batches = Batches(
            np.arange(20),
            batch_size=5,
            seed=seed,
            sampler=BalancedSampler(np.arange(20) % 2),
        )
        found = []
        for epoch in epochs:
            batches.epoch = epoch
            found.append(np.concatenate([batches[i][0] for i in range(4)]))
        return found

    both = passes(0, [0, 1])
    np.testing.assert_array_equal(passes(0, [1])[0], both[1])
    assert (both[0] != both[1]).any()
    assert (passes(1, [0])[0] != both[0]).any()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (lambda generator, number: np.arange(3), "20 row indices"),
        (lambda generator, number: np.arange(20) + 1, "from 1 to 20"),
        (lambda generator, number: np.arange(20) / 2, "dtype float64"),
    ],
)
def test_bad_order(sampler, message):
    with pytest.raises(ValueError, match=message):
        Batches(np.arange(20), sampler=sampler)[0]


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_numbers_keep_the_width_of_keras(width):
    value = 1e9 + 1
    keras.config.set_floatx(width)
    batches = Batches(np.full((2, 1), value), np.full(2, value))
    x, y = batches[0]
    assert x.dtype == y.dtype == width
    assert (float(y[0]) == value) == (width == "float64")


def test_a_quota_is_not_lost_to_rounding():
    for inside in range(1, 98):
        mask = np.arange(100) < inside
        sampler = StratifiedBatchSampler(mask, batch_size=100)
        assert sampler.quota == inside + 1
