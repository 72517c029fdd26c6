import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from keras_debias import metrics


def test_against_sklearn():
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(0, 3, (2, 500))
    ids = rng.integers(0, 4, 500)
    accuracies, counts = metrics.group_accuracy(y == predicted, ids, 5)
    for group in range(4):
        rows = ids == group
        assert accuracies[group] == accuracy_score(y[rows], predicted[rows])
        assert counts[group] == rows.sum()
    assert np.isnan(accuracies[4]) and counts[4] == 0


def test_hand_counts():
    accuracies, counts = metrics.group_accuracy(
        [True, False, False, True, True], [0, 0, 0, 2, 2]
    )
    np.testing.assert_allclose(accuracies, [1 / 3, np.nan, 1])
    assert counts.tolist() == [3, 0, 2]
    assert metrics.worst_group(accuracies) == 0
    assert metrics.accuracy_gap(0.6, accuracies) == pytest.approx(0.6 - 1 / 3)
    # the empty group's share is left out: (1/3 * .3 + 1 * .1) / .4
    weighted = metrics.weighted_group_accuracy(accuracies, [0.3, 0.6, 0.1])
    assert weighted == pytest.approx(0.5)


def test_own_shares_give_the_overall_accuracy():
    rng = np.random.default_rng(1)
    correct, ids = rng.random(200) < 0.7, rng.integers(0, 3, 200)
    accuracies, counts = metrics.group_accuracy(correct, ids)
    weighted = metrics.weighted_group_accuracy(accuracies, counts / 200)
    assert weighted == pytest.approx(correct.mean())


def test_nothing_there():
    empty = [float("nan")] * 2
    assert metrics.worst_group(empty) is None
    assert np.isnan(metrics.accuracy_gap(0.5, empty))
    assert np.isnan(metrics.weighted_group_accuracy(empty, [0.5, 0.5]))


def test_bad_input():
    with pytest.raises(ValueError, match="one length"):
        metrics.group_accuracy([True], [0, 1])
    with pytest.raises(ValueError, match="from 0 to 3"):
        metrics.group_accuracy([True, False], [0, 3], 2)
    with pytest.raises(ValueError, match="one shape"):
        metrics.weighted_group_accuracy([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="negative"):
        metrics.weighted_group_accuracy([0.5], [-1])
