"""Audits of a regression: rank correlations, planted and null."""

import numpy as np
import pytest
from scipy import stats

import keras_debias as kd
from keras_debias.auditing import TargetReport

WORDS = ("rain", "sun", "wind", "dog", "cat", "tree", "car", "road")


def split_of(seed=0, n=600, effect=0.0, **options):
    rng = np.random.default_rng(seed)
    words = rng.choice(WORDS[1:], (n, 4))
    has = rng.random(n) < 0.3
    words[has, 3] = "rain"
    texts = [" ".join(row) for row in words]
    y = rng.normal(size=n).round(1) + effect * has
    return kd.data.Split(texts, y, name="sts", **options), has


def test_a_planted_word_is_found(tmp_path):
    split, has = split_of(effect=1.0)
    split = split.with_groups({"side": has})
    report = kd.audit(split)
    first = report.findings[0]
    assert first.feature.token == "rain"
    assert first.correlation == pytest.approx(
        stats.spearmanr(has, split.y).statistic
    )
    # Mann and Whitney's test is the same for a feature of yes and no.
    expected = stats.mannwhitneyu(
        split.y[has], split.y[~has], use_continuity=False
    )
    assert first.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert first.mean_with == pytest.approx(split.y[has].mean())
    assert first.mean_without == pytest.approx(split.y[~has].mean())
    assert {f.feature.field for f in report.group_findings} == {"side"}
    assert "rain" in str(report) and report.to_pandas()["n"][0] == has.sum()
    report.to_json(tmp_path / "audit.json")
    assert TargetReport.from_json(tmp_path / "audit.json") == report
    grouped = first.with_groups(split)
    assert sorted(grouped.groups.counts().values()) == sorted(
        [has.sum(), (~has).sum()]
    )


def test_nothing_is_found_in_noise():
    found = [len(kd.audit(split_of(seed)[0]).findings) for seed in range(5)]
    assert sum(found) <= 1
    assert "Nothing goes with the target" in str(kd.audit(split_of(0)[0]))


def test_errors_go_with_a_word():
    split, has = split_of(seed=1)
    rng = np.random.default_rng(2)
    said = split.y + rng.normal(size=len(has)) * np.where(has, 2.0, 0.1)
    report = kd.audit(split, target="errors", predictions=said)
    assert report.findings[0].feature.token == "rain"
    assert report.findings[0].mean_with > report.findings[0].mean_without


def test_what_does_not_fit_is_refused():
    split, _ = split_of()
    with pytest.raises(ValueError, match='target="errors"'):
        kd.audit(split, predictions=split.y)
    with pytest.raises(ValueError, match="one finite number a row"):
        kd.audit(split, target="errors", predictions=np.zeros((3, 2)))
    same = kd.data.Split(split.x, np.full(len(split), 0.5))
    with pytest.raises(ValueError, match="labels that differ"):
        kd.audit(same)
