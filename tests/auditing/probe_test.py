"""Probes and tokens of unbalanced data, repeated rows and other scripts."""

import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import balanced_accuracy_score

from keras_debias.auditing.partial_input_probe import _balanced_accuracy
from keras_debias.auditing.partial_input_probe import run_probe
from keras_debias.auditing.text_measures import pair_measure
from keras_debias.auditing.text_measures import tokens


def probe(features, labels, **options):
    options = {"folds": 3, "level": 0.01, "probes": 1, "seed": 0, **options}
    return run_probe("a part", features, labels, **options)


def test_balanced_accuracy_and_its_null():
    """Against scikit-learn, and against permutations of the labels."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 300, p=[0.9, 0.06, 0.04])
    said = np.where(rng.random(300) < 0.4, labels, rng.integers(0, 3, 300))
    found, z = _balanced_accuracy(said, labels)
    assert found == pytest.approx(balanced_accuracy_score(labels, said))
    null = np.array(
        [
            _balanced_accuracy(said, rng.permutation(labels))[0]
            for _ in range(2000)
        ]
    )
    expected = (found - null.mean()) / null.std()
    assert z == pytest.approx(expected, rel=0.1)


def test_a_rare_class_is_seen():
    rng = np.random.default_rng(0)
    labels = (rng.random(3000) < 0.03).astype(int)
    mark = rng.random(3000) < np.where(labels, 0.9, 0.1)
    features = sparse.csr_matrix(np.stack([mark, ~mark], 1).astype(float))
    found = probe(features, labels)
    assert found.majority == 0.5
    assert found.significant and found.accuracy > 0.8
    noise = rng.normal(size=(3000, 2))
    found = probe(np.c_[mark, noise], labels)
    assert found.significant and found.accuracy > 0.8
    assert not probe(noise, labels).significant


def test_equal_rows_are_not_evidence_of_each_other():
    """A premise in several rows of one label tells nothing of others."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(5):
        labels = np.repeat(rng.integers(0, 2, 150), 3)
        features = np.repeat(rng.normal(size=(150, 4)), 3, axis=0)
        hits += probe(features, labels, seed=seed).significant
    assert hits == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("不好。", ["不", "好", "不好", "。"]),
        ("घर नहीं है", ["घर", "नहीं", "है"]),
        ("আমি না", ["আমি", "না"]),
        ("Don't café!!", ["don't", "café", "!!"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("私はJohnです", ["私", "は", "私は", "john", "で", "す", "です"]),
        ("a_b 3.5", ["a", "_", "b", "3", ".", "5"]),
    ],
)
def test_tokens_of_scripts(text, expected):
    assert tokens([text])[0] == expected


def by_hand(first, second):
    return any(
        first[i : i + len(second)] == second
        for i in range(len(first) - len(second) + 1)
    )


def test_contiguous_against_a_search_by_hand():
    rng = np.random.default_rng(0)
    for _ in range(300):
        first = list(rng.choice(["a", "b"], rng.integers(0, 12)))
        second = list(rng.choice(["a", "b"], rng.integers(1, 5)))
        found = pair_measure("contiguous", [first], [second])
        assert bool(found[0]) == by_hand(first, second)
    characters = tokens(["今天我们在家", "我们在", "我在"])
    assert pair_measure("contiguous", characters[:1], characters[1:2])[0] == 1
    assert pair_measure("contiguous", characters[:1], characters[2:])[0] == 0


def test_contiguous_takes_linear_time():
    def seconds(words):
        first, second = ["ha"] * words, ["ha"] * (words // 2) + ["x"]
        began = time.process_time()
        pair_measure("contiguous", [first], [second])
        return time.process_time() - began

    # Quadratic, 40,000 words would be 200 million comparisons.
    assert seconds(40_000) < 2.0
