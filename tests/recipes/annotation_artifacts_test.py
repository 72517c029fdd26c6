"""Artifacts that frozen features do not show: planted ones, and none."""

import numpy as np
import pytest

import keras_debias as kd
from keras_debias.recipes.annotation_artifacts import annotation_artifacts

R = kd.recipes


def marked(rows=1500, share=0.9, shown=False, frequency=0.2, seed=0):
    """Texts, and features of what they mean; "zz" goes with "yes".

    Args:
        share: how many of the rows with "zz" are "yes".
        shown: whether the features show "zz" as well.
        frequency: how many rows have it.
    """
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, rows).astype("int32")
    chance = 2 * frequency * np.where(y == 1, share, 1 - share)
    has = generator.random(rows) < chance
    texts = [
        f"row {'zz ' * int(mark)}{generator.integers(99)} {number}"
        for number, mark in enumerate(has)
    ]
    split = kd.data.Split(texts, y, label_names=("no", "yes"))
    # Clusters are of the loud columns, which say nothing.
    meaning = generator.standard_normal((rows, 4)) * [1, 5, 5, 5]
    meaning[:, 0] += 1.5 * y
    if shown:
        meaning[:, 1] = has
    by_text = dict(zip(texts, meaning, strict=True))
    return split, lambda rows: np.array([by_text[text] for text in rows.x])


def found_in(split, features):
    probe = R.FrozenProbe(features).out_of_fold(split)
    report = kd.audit(split, folds=0)
    return annotation_artifacts(split, report.findings, report.tests, probe)


def test_a_planted_cue_is_found():
    split, features = marked(shown=False, share=0.85)
    (cue,) = found_in(split, features)
    assert str(cue.finding.feature) == "text has 'zz'"
    assert cue.finding.label == "yes"
    no = split.y == 0
    has = np.array(["zz" in text for text in split.x])
    harm = cue.finding.harm
    assert harm.n == (has & no).sum()
    # Those who read "zz" follow it.
    assert harm.error_rate_with > 0.5 > 0.4 > harm.error_rate_without > 0
    # The features tell nothing of "zz": by counting, what it says of the label
    # of a row that has it.
    share = np.mean(split.y[has])
    told = share * np.log(2 * share) + (1 - share) * np.log(2 * (1 - share))
    assert 0.5 * told < cue.gain < 1.2 * told


def test_what_features_show_is_not_reported():
    assert not found_in(*marked(shown=True, share=0.85))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_where_nothing_is(seed):
    split, features = marked(share=0.5, seed=seed)
    assert not found_in(split, features)
    split, features = marked(share=0.85, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(split.y)
    assert not found_in(split._replace(y=shuffled), features)


def test_a_small_gain_is_left_alone():
    """Significant in so many rows, and not worth acting on."""
    assert not found_in(*marked(rows=12_000, share=0.57, frequency=0.4))


def test_too_few_rows_speak_against_it():
    assert not found_in(*marked(share=0.97, frequency=0.15))


def test_recommended_balances_it():
    split, features = marked(share=0.85)
    found = kd.recommended(split, features)
    assert isinstance(found.recipe, R.RakedSampling)
    (groups,) = found.recipe.views
    assert [f.feature.token for f in groups.findings] == ["zz"]
    assert "beyond what frozen features tell" in found.reason
    assert "text has 'zz' -> yes" in found.reason
    assert found.evidence["gain_beyond_features"] > 0.1
    clean, features = marked(share=0.5)
    found = kd.recommended(clean, features)
    assert isinstance(found.recipe, R.FineTuning)


def test_validation_data_without_the_cue_confirms():
    """To follow the cue costs the rows against it."""
    train, of_train = marked(share=0.85)
    texts = set(train.x)
    validation, of_others = marked(share=0.5, frequency=0.4, seed=1)

    def features(rows):
        return (of_train if rows.x[0] in texts else of_others)(rows)

    found = kd.recommended(train, features, validation)
    assert isinstance(found.recipe, R.RakedSampling)
    before = found.evidence["validation_worst_cell"]
    assert found.evidence["the_same_with_the_method"] > before + 0.1
