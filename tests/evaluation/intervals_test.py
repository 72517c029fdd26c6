"""Intervals against SciPy's, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from keras_debias.evaluation.intervals import accuracy_intervals
from keras_debias.evaluation.intervals import clopper_pearson
from keras_debias.evaluation.intervals import f1_interval
from keras_debias.evaluation.intervals import weighted_f1

CONFIDENCE = 0.95
# So many draws that 3 standard errors of 95 % are below 4 points.
DRAWS = 300


def by_sizes(right, sizes, confidence=CONFIDENCE):
    """The intervals of groups with so many hits in so many rows."""
    ids = np.repeat(np.arange(len(sizes)), sizes)
    correct = np.concatenate(
        [np.arange(n) < k for k, n in zip(right, sizes, strict=True)]
    )
    members = ids[:, None] == np.arange(len(sizes))
    counted = np.ones(len(sizes), dtype=bool)
    return accuracy_intervals(correct, members, counted, None, confidence)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (3, 7), (81, 100)])
def test_single_shares_against_scipy(right, n):
    found = clopper_pearson(right, n, 0.025)
    expected = stats.binomtest(right, n).proportion_ci(CONFIDENCE, "exact")
    np.testing.assert_allclose(found, (expected.low, expected.high))
    groups = by_sizes([right, 3], [n, 4]).groups
    np.testing.assert_allclose(groups[0], (expected.low, expected.high))


def test_nothing_is_sure_of_few_rows():
    low, high = clopper_pearson(0, 5, 0.025)
    assert low == 0 and high > 0.5
    assert clopper_pearson(0, 0, 0.025) == (0.0, 1.0)


SHARES = {
    "alike": lambda groups: np.full(groups, 0.85),
    "one worse": lambda groups: np.r_[0.4, np.full(groups - 1, 0.85)],
    "spread": lambda groups: np.linspace(0.5, 0.95, groups),
    "at the ends": lambda groups: np.r_[0.0, np.full(groups - 1, 1.0)],
    "perfect": lambda groups: np.ones(groups),
}


def coverage(groups, size, shares, seed=0, draws=DRAWS):
    """How often each interval holds the truth, and its own estimate."""
    rng = np.random.default_rng(seed)
    # Half the groups are small.
    sizes = np.where(np.arange(groups) % 2, size, max(size // 4, 3))
    truth = SHARES[shares](groups)
    overall = (truth * sizes).sum() / sizes.sum()
    held = {"overall": 0, "group": 0, "worst": 0, "gap": 0, "own": 0}
    known = {}
    for right in rng.binomial(sizes, truth, size=(draws, groups)):
        key = tuple(right)
        if key not in known:
            known[key] = by_sizes(right, sizes)
        found = known[key]
        seen = right / sizes
        mean = right.sum() / sizes.sum()

        def holds(interval, value):
            return interval[0] - 1e-12 <= value <= interval[1] + 1e-12

        held["overall"] += holds(found.accuracy, overall)
        held["group"] += holds(found.groups[0], truth[0])
        worst, gap = found.worst_group_accuracy, found.gap
        held["worst"] += holds(worst, truth.min())
        held["gap"] += holds(gap, overall - truth.min())
        held["own"] += holds(worst, seen.min()) and holds(
            gap, mean - seen.min()
        )
    return {name: count / draws for name, count in held.items()}


@pytest.mark.parametrize("shares", list(SHARES))
@pytest.mark.parametrize(("groups", "size"), [(2, 100), (6, 20), (24, 100)])
def test_coverage(groups, size, shares):
    draws = DRAWS if groups < 24 else 100
    found = coverage(groups, size, shares, draws=draws)
    slack = 3 * np.sqrt(0.05 * 0.95 / draws)
    for name in ("overall", "group", "worst", "gap"):
        assert found[name] >= CONFIDENCE - slack, (name, found)
    # An interval that does not hold its own estimate misleads.
    assert found["own"] == 1.0


def test_the_bootstrap_of_the_minimum_would_not_hold():
    """A planted failure: the simulation tells a bad interval from a good."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        right = rng.binomial(100, 0.85, size=24) / 100
        worst = rng.binomial(100, right, size=(300, 24)).min(axis=1) / 100
        low, high = np.quantile(worst, [0.025, 0.975])
        held += low <= 0.85 <= high
    assert held < 4


def test_the_interval_of_the_gap_holds_zero_only_where_it_may():
    alike = by_sizes([85] * 6, [100] * 6).gap
    assert alike[0] == 0 < alike[1]
    apart = by_sizes([95, 95, 30], [100] * 3).gap
    assert 0.2 < apart[0] < 0.95 - 0.3 - 0.2 < apart[1] < 0.65


def test_overlapping_groups_hold_too():
    rng = np.random.default_rng(0)
    members = rng.random((400, 5)) < [0.5, 0.4, 0.3, 0.2, 0.1]
    chance = np.where(members[:, 4], 0.6, 0.9)
    truth = [chance[m].mean() for m in members.T]
    counted = np.ones(5, dtype=bool)
    held = np.zeros(2)
    for _ in range(300):
        found = accuracy_intervals(
            rng.random(400) < chance, members, counted, None, CONFIDENCE
        )
        low, high = found.worst_group_accuracy
        held[0] += low <= min(truth) <= high
        low, high = found.gap
        held[1] += low <= chance.mean() - min(truth) <= high
    assert (held / 300 >= CONFIDENCE - 0.04).all(), held


def test_weighted_intervals_hold():
    rng = np.random.default_rng(1)
    weight = rng.choice([0.2, 1.0, 5.0], 200)
    held = 0
    for _ in range(500):
        found = accuracy_intervals(
            rng.random(200) < 0.8, None, None, weight, CONFIDENCE
        )
        held += found.accuracy[0] <= 0.8 <= found.accuracy[1]
    assert held / 500 >= CONFIDENCE - 0.03
    # One row that counts for all leaves one row's knowledge.
    heavy = accuracy_intervals(
        np.ones(9, bool), None, None, np.r_[1e9, np.ones(8)], CONFIDENCE
    )
    assert heavy.accuracy[0] < 0.1


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_bootstrap_of_f1_agrees_with_resampled_rows(several, weighted):
    rng = np.random.default_rng(0)
    n = 150
    if several:
        labels = rng.random((n, 3)) < 0.4
        predictions = labels ^ (rng.random((n, 3)) < 0.2)
    else:
        labels = rng.integers(0, 3, n)
        predictions = np.where(rng.random(n) < 0.7, labels, 1)
    weight = rng.choice([0.5, 1.0, 2.0], n) if weighted else None
    found = f1_interval(labels, predictions, weight, 2000, CONFIDENCE, 0)
    drawn = []
    for _ in range(300):
        rows = rng.integers(0, n, n)
        drawn.append(
            f1_score(
                labels[rows],
                predictions[rows],
                average="weighted",
                sample_weight=None if weight is None else weight[rows],
                zero_division=0,
            )
        )
    expected = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(found, expected, atol=0.02)
    own = weighted_f1(labels, predictions, weight)
    assert found[0] < own < found[1]
