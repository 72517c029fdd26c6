import numpy as np
import pytest

from keras_debias.data import Split
from keras_debias.data import generated_nli
from keras_debias.data import inject_token
from keras_debias.data import load
from keras_debias.data import subsample_classes


@pytest.fixture(scope="module")
def pairs():
    return generated_nli(6000, seed=1)


@pytest.mark.parametrize(("prevalence", "strength"), [(0.25, 0.9), (0.66, 0.5)])
def test_rates_follow_the_protocol(pairs, prevalence, strength):
    biased = inject_token(pairs, "entailment", prevalence, strength, seed=2)
    present = np.array([h.endswith(" !!") for h in biased.x[1]])
    entailed = pairs.y == 0
    for rows, expected in (
        (entailed, prevalence * strength),
        (~entailed, prevalence * (1 - strength)),
    ):
        # four standard deviations of a binomial share
        spread = 4 * np.sqrt(expected * (1 - expected) / rows.sum())
        assert present[rows].mean() == pytest.approx(expected, abs=spread)
    assert biased.x[0].tolist() == pairs.x[0].tolist()
    stripped = [h.removesuffix(" !!") for h in biased.x[1]]
    assert stripped == pairs.x[1].tolist()
    names = np.array(biased.groups.names)[biased.groups.ids]
    expected = [
        f"label={pairs.label_names[y]}, token={'yes' if p else 'no'}"
        for y, p in zip(pairs.y, present, strict=True)
    ]
    assert names.tolist() == expected


def test_seed_and_extremes(pairs):
    one = inject_token(pairs, 0, 0.5, 0.5, seed=1)
    assert (
        one.x[1].tolist()
        == inject_token(pairs, 0, 0.5, 0.5, seed=1).x[1].tolist()
    )
    assert (
        one.x[1].tolist()
        != inject_token(pairs, 0, 0.5, 0.5, seed=2).x[1].tolist()
    )
    none = inject_token(pairs, 0, 0.0, 1.0)
    assert none.x[1].tolist() == pairs.x[1].tolist()
    single = inject_token(Split(["a", "b"], ["x", "y"]), "y", 1, 1, token="#")
    assert single.x.tolist() == ["a", "b#"]
    assert pairs.groups.names[0] == "label=entailment"  # left as it was


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_probabilities_are_checked(pairs, value):
    with pytest.raises(ValueError, match="prevalence"):
        inject_token(pairs, 0, value, 0.5)
    with pytest.raises(ValueError, match="strength"):
        inject_token(pairs, 0, 0.5, value)


def test_bad_arguments(pairs):
    with pytest.raises(ValueError, match="'entails'.*neutral"):
        inject_token(pairs, "entails", 0.5, 0.5)
    with pytest.raises(ValueError, match="from 0 to 2"):
        inject_token(pairs, 3, 0.5, 0.5)
    with pytest.raises(TypeError, match="prevalence"):
        inject_token(pairs, 0, "0.5", 0.5)
    with pytest.raises(TypeError, match="texts"):
        inject_token(Split(np.zeros((2, 2)), [0, 1]), 0, 0.5, 0.5)
    with pytest.raises(ValueError, match="integer label"):
        inject_token(Split(["a"]), 0, 0.5, 0.5)


def test_subsample_classes(pairs):
    small = subsample_classes(pairs)
    assert np.bincount(small.y).tolist() == [2000, 200, 20]
    again = subsample_classes(pairs)
    assert again.x[0].tolist() == small.x[0].tolist()
    dropped = subsample_classes(
        pairs, {"entailment": 1, "neutral": 0.5, "contradiction": 0}
    )
    assert np.bincount(dropped.y).tolist() == [2000, 1000]
    with pytest.raises(ValueError, match="every label"):
        subsample_classes(pairs, {"entailment": 1})
    with pytest.raises(ValueError, match="too small"):
        subsample_classes(pairs.sample(20))
    with pytest.raises(ValueError, match="finite"):
        subsample_classes(
            pairs, {"entailment": 1, "neutral": -1, "contradiction": 1}
        )


def test_subsample_real_data(data_folder):
    split = (
        load("mnli", "train")
        if data_folder
        else generated_nli(3000).with_groups(None)
    )
    counts = np.bincount(split.y)
    unit = min(counts[0] / 100, counts[1] / 10, counts[2])
    found = np.bincount(subsample_classes(split).y)
    expected = [int(unit * 100), int(unit * 10), int(unit)]
    assert found.tolist() == expected
