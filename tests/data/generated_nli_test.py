import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from keras_debias.data import generated_nli
from keras_debias.data import generated_overlap


def words(text):
    return re.findall(r"[\w-]+", text.lower())


def pair_features(pair):
    premise, hypothesis = map(set, map(words, pair))
    shared = premise & hypothesis
    return [
        f"{len(hypothesis - premise)} missing",
        *(f"shared {w}" for w in shared & {"not"}),
        *(f"{a}|{b}" for a in premise - shared for b in hypothesis - shared),
    ]


def accuracy(rows, analyzer, labels):
    counts = CountVectorizer(analyzer=analyzer, binary=True)
    features = counts.fit_transform(rows)
    half = len(labels) * 2 // 3
    model = LogisticRegression(max_iter=300)
    model.fit(features[:half], labels[:half])
    return model.score(features[half:], labels[half:])


def test_hypothesis_alone_does_not_give_the_label():
    split = generated_nli(4500, seed=3)
    alone = accuracy(split.x[1], words, split.y)
    pair = accuracy(list(zip(*split.x, strict=True)), pair_features, split.y)
    assert alone < 0.5
    assert pair > 0.75


def test_generated_nli():
    split = generated_nli(3000, seed=1)
    assert np.bincount(split.y).tolist() == [1000, 1000, 1000]
    assert len(set(zip(*split.x, strict=True))) == 3000
    again = generated_nli(3000, seed=1)
    assert again.x[0].tolist() == split.x[0].tolist()
    assert generated_nli(3000).x[0].tolist() != split.x[0].tolist()
    assert split.groups.names[2] == "label=contradiction"
    assert all(re.fullmatch(r"[A-Z][a-z -]+\.", text) for text in split.x[0])


def test_generated_overlap():
    split = generated_overlap(2000, seed=1)
    assert len(set(zip(*split.x, strict=True))) == 2000
    assert list(split.groups.counts().values()) == [500] * 4
    subsequence = ["subsequence" in name for name in split.groups.names]
    for premise, hypothesis, group in zip(
        *split.x, split.groups.ids, strict=True
    ):
        assert set(words(hypothesis)) <= set(words(premise))
        inside = " ".join(words(hypothesis)) in " ".join(words(premise))
        assert inside == subsequence[group]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="n=2"):
        generated_nli(2)
    with pytest.raises(TypeError, match="n=10.0"):
        generated_nli(10.0)
    with pytest.raises(ValueError, match="n=0"):
        generated_overlap(0)
