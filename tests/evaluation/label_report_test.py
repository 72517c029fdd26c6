"""Reports of label scores against hand-made ones and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

import keras_debias as kd
from keras_debias.evaluation import calibrated_scores
from keras_debias.evaluation import domain_texts
from keras_debias.evaluation import label_report
from keras_debias.evaluation import tune_threshold

SCORES = [[3.0, 1.0, 0.0], [2.0, 4.0, 0.0], [5.0, 1.0, 2.0], [1.0, 0.0, 3.0]]


def test_one_label_a_row():
    report = label_report(SCORES, [0, 1, 2, 2], ["joy", "fear", "trust"])
    assert report.rows == 4
    assert report.accuracy == report.exact_match == 0.75
    found = [0, 1, 0, 2]
    gold = [0, 1, 2, 2]
    assert report.weighted_f1 == pytest.approx(
        f1_score(gold, found, average="weighted")
    )
    assert report.macro_f1 == pytest.approx(
        f1_score(gold, found, average="macro")
    )
    # Means of each column: 2.75, 1.5, 1.25.
    assert report.propensity == pytest.approx(np.std([2.75, 1.5, 1.25]))
    assert report.contain == {"joy": 3.0, "fear": 4.0, "trust": 2.5}
    assert report.lack["joy"] == pytest.approx(8 / 3)
    assert report.lack["fear"] == pytest.approx(2 / 3)
    assert report.lack["trust"] == 0.0
    gaps = [3 - 8 / 3, 4 - 2 / 3, 2.5]
    assert report.discrimination == pytest.approx(np.mean(gaps))
    assert report.to_dict()["rows"] == 4


def test_several_labels_a_row():
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], "float32")
    highest = label_report(SCORES, gold)
    assert highest.accuracy == 0.75
    assert highest.exact_match == 0.5
    assert highest.threshold is None
    # A threshold that every row's best label passes, and only one second.
    below = np.log(np.exp(2) / np.exp([2, 4, 0]).sum()) - 1e-6
    report = label_report(SCORES, gold, threshold=below)
    found = [[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]]
    chances = np.array(SCORES)
    chances = chances - np.log(np.exp(chances).sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(chances > below, np.array(found) > 0)
    assert report.exact_match == 0.75
    assert report.weighted_f1 == pytest.approx(
        f1_score(gold, found, average="weighted")
    )
    assert report.argmax_weighted_f1 == highest.weighted_f1
    # Tuning finds one that is at least as good as any other candidate.
    best = label_report(SCORES, gold, threshold=tune_threshold(SCORES, gold))
    assert best.weighted_f1 >= report.weighted_f1
    assert best.weighted_f1 >= highest.weighted_f1
    # What all scores of a row share does not count.
    shifted = np.array(SCORES) + np.array([[5.0], [-3.0], [0.0], [9.0]])
    again = label_report(shifted, gold, threshold=below)
    assert again.weighted_f1 == report.weighted_f1


def test_calibration_takes_a_constant_preference_away():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 200)
    fair = generator.standard_normal((200, 3)) + 2.0 * np.eye(3)[y]
    bias = np.array([4.0, 0.0, -1.0])
    biased = fair + bias
    # A text without content shows the bias alone.
    found = calibrated_scores(biased, np.array([bias, bias + 7.0]))
    assert label_report(biased, y).accuracy < 0.5
    assert (found.argmax(1) == fair.argmax(1)).all()
    assert label_report(found, y).propensity < 0.2
    # Without a preference, nothing changes.
    same = calibrated_scores(fair, np.zeros((1, 3)))
    assert (same.argmax(1) == fair.argmax(1)).all()


def test_domain_texts():
    texts = ["one two", "three four five six"]
    found = domain_texts(texts, n=7, seed=1)
    assert len(found) == 7
    assert all(len(text.split()) == 3 for text in found)
    words = set("one two three four five six".split())
    assert {w for text in found for w in text.split()} <= words
    assert domain_texts(texts, n=7, seed=1) == found
    assert domain_texts(texts, n=7, seed=2) != found


def test_label_cross_entropy():
    loss = kd.losses.LabelCrossEntropy()
    gold = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], "float32")
    z = np.array(SCORES[:3], "float32")
    log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = [-(log[0, 0] + log[0, 2]) / 2, -log[1, 1], 0.0]
    assert float(loss(gold, z)) == pytest.approx(np.mean(expected), rel=1e-5)
    again = kd.losses.LabelCrossEntropy.from_config(loss.get_config())
    assert float(again(gold, z)) == float(loss(gold, z))


def test_bad_input():
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        label_report(SCORES, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="shape"):
        label_report(SCORES, np.ones((4, 2)))
    with pytest.raises(ValueError, match="finite"):
        label_report([[np.nan, 1.0]], [0])
    with pytest.raises(ValueError, match="multi-hot"):
        label_report(SCORES, [0, 1, 2, 2], threshold=0.0)
    with pytest.raises(ValueError, match="`label_names`"):
        label_report(SCORES, [0, 1, 2, 2], ["joy"])
    with pytest.raises(ValueError, match="one column"):
        calibrated_scores(SCORES, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="words"):
        domain_texts([""], 3)
