"""Raking weights, against their totals, a minimizer and known groups."""

import numpy as np
import pytest
from scipy import optimize

import keras_debias as kd
from keras_debias.recipes.propensity import effective_share
from keras_debias.recipes.raking import raking_weights
from tests.recipes import toy

R = kd.recipes


def attributes(rows=2400, seed=0):
    """Three labels, and two cues of which each goes with one; one is rare."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, rows)
    rare = generator.random(rows) < np.where(y == 0, 0.2, 0.03)
    common = generator.random(rows) < np.where(y == 1, 0.7, 0.25)
    common |= rare & (generator.random(rows) < 0.5)
    return y, rare, common


def totals(weights, y, cells):
    """Share of the weight of each cell x label."""
    found = [
        [
            weights[(cells == cell) & (y == label)].sum()
            for label in np.unique(y)
        ]
        for cell in np.unique(cells)
    ]
    return np.array(found) / weights.sum()


def test_labels_and_cells_are_even_where_rows_suffice():
    y, rare, common = attributes()
    weights, evenness = raking_weights(y, [rare, common], 0.01)
    assert evenness == 1.0
    assert weights.mean() == pytest.approx(1.0)
    for cue in (rare, common):
        np.testing.assert_allclose(totals(weights, y, cue), 1 / 6, atol=1e-7)


def test_cells_are_as_even_as_rows_allow():
    y, rare, common = attributes()
    shares = []
    for least in (0.7, 0.4, 0.2):
        weights, evenness = raking_weights(y, [rare, common], least)
        assert effective_share(weights) == pytest.approx(least, abs=1e-3)
        for cue in (rare, common):
            found = totals(weights, y, cue)
            # Every label alike, and cells between as they are and even.
            np.testing.assert_allclose(
                found, found[:, :1] * np.ones(3), atol=1e-7
            )
            expected = cue.mean() + evenness * (0.5 - cue.mean())
            assert found[1].sum() == pytest.approx(expected, abs=1e-7)
        shares.append(totals(weights, y, rare)[1].sum())
    assert rare.mean() < shares[0] < shares[1] < shares[2] < 0.5


def test_it_is_the_least_change_with_these_totals():
    """Of all weights with these totals, those nearest to equal ones."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 400)
    first = generator.random(400) < np.array([0.5, 0.2, 0.3])[y]
    second = generator.random(400) < np.array([0.3, 0.6, 0.4])[y]
    weights, evenness = raking_weights(y, [first, second], 0.01)
    assert evenness == 1.0
    conditions = np.array(
        [
            (cue == cell) & (y == label)
            for cue in (first, second)
            for cell in (False, True)
            for label in range(3)
        ],
        "float64",
    )

    def dual(multipliers):
        return np.exp(conditions.T @ multipliers).mean() - multipliers.sum() / 6

    found = optimize.minimize(dual, np.zeros(12), method="BFGS", tol=1e-9)
    expected = np.exp(conditions.T @ found.x)
    np.testing.assert_allclose(weights, expected, rtol=1e-3)


def test_one_attribute_is_balanced_groups():
    y, rare, _ = attributes()
    weights, _ = raking_weights(y, [rare], 0.01)
    groups = y + 3 * rare
    expected = 1 / np.bincount(groups)[groups]
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_a_label_that_a_cell_lacks():
    y, rare, _ = attributes()
    kept = ~(rare & (y == 2))
    y, rare = y[kept], rare[kept]
    weights, _ = raking_weights(y, [rare], 0.05)
    found = totals(weights, y, rare)
    assert found[1, 2] == 0
    assert found[1, 0] == pytest.approx(found[1, 1], abs=1e-7)
    np.testing.assert_allclose(found[0], found[0, 0], atol=1e-7)


def test_unequal_labels_leave_enough_rows():
    """Even labels alone would leave a twentieth of the rows."""
    y = (np.arange(1000) % 100 == 0).astype(int)
    cue = np.arange(1000) % 7 == 0
    weights, evenness = raking_weights(y, [cue], 0.3)
    assert evenness == 0.0
    assert effective_share(weights) >= 0.3 - 1e-6
    assert weights[y == 1].mean() > 2 * weights[y == 0].mean()


def test_weights_of_findings():
    """A cue in one of thirty texts is drawn more often, of both labels."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 2000).astype("int32")
    zz = generator.random(2000) < np.where(y == 1, 0.04, 0.01)
    texts = [f"{'zz ' if z else ''}row {i}" for i, z in enumerate(zz)]
    train = kd.data.Split(texts, y, label_names=["no", "yes"])
    findings = [
        finding
        for finding in kd.audit(train, folds=0).findings
        if str(finding.feature) == "text has 'zz'"
    ]
    assert len(findings) == 1
    trainer = toy.trainer(model_fn=toy.build_text)
    recipe = R.RakedSampling(R.FindingGroups(findings), min_effective=0.3)
    weights = recipe.weights(trainer, train)
    assert zz.mean() < 0.04 and y[zz].mean() > 0.7
    assert np.average(y[zz], weights=weights[zz]) == pytest.approx(0.5)
    assert np.average(zz, weights=weights) > 0.1
    assert trainer.notes["effective_share"] == pytest.approx(0.3, abs=1e-3)
    assert 0 < trainer.notes["evenness"] < 1
