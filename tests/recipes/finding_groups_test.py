"""Groups by label x chosen findings of an audit."""

import keras
import numpy as np
import pytest

import keras_debias as kd
from tests.recipes import toy

R = kd.recipes


def two_cues(rows=900, seed=0):
    """Texts in which "zig" goes with "yes" and "zag" with "no"."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, rows).astype("int32")
    zig = np.where(y == 1, 0.4, 0.1) > generator.random(rows)
    zag = np.where(y == 0, 0.3, 0.1) > generator.random(rows)
    texts = [
        f"row {'zig ' * int(a)}{'zag ' * int(b)}{number}"
        for number, (a, b) in enumerate(zip(zig, zag, strict=True))
    ]
    split = kd.data.Split(texts, y, label_names=("no", "yes"))
    findings = kd.audit(split, folds=0).findings
    chosen = [f for f in findings if f.feature.token in ("zig", "zag")]
    chosen.sort(key=lambda finding: finding.feature.token, reverse=True)
    assert [f.label for f in chosen] == ["yes", "no"]
    return split, zig, zag, chosen


def test_cells_are_the_features_of_a_row():
    train, zig, zag, findings = two_cues()
    groups = R.FindingGroups(findings)
    expected = [
        " and ".join(
            (
                "text has 'zig'" if a else "none",
                "text has 'zag'" if b else "none",
            )
        )
        for a, b in zip(zig, zag, strict=True)
    ]
    assert groups.cells(None, train).tolist() == expected
    first, second = groups.views(None, train)
    np.testing.assert_array_equal(first, zig)
    np.testing.assert_array_equal(second, zag)
    found = R.FindingGroups(findings[0]).cells(None, train, train.take([3, 5]))
    np.testing.assert_array_equal(found != "none", zig[[3, 5]])


def test_weights_balance_the_labels_under_each_cue():
    train, zig, zag, findings = two_cues()
    recipe = R.InversePropensitySampling(
        views=R.FindingGroups(findings), min_effective=0.05
    )
    trainer = toy.trainer(model_fn=toy.build_text)
    weights = recipe.weights(trainer, train)
    for cue in (zig, zag):
        before = train.y[cue].mean()
        assert abs(before - 0.5) > 0.2
        # The views are balanced in turn, so the first is not exact.
        after = np.average(train.y[cue], weights=weights[cue])
        assert abs(after - 0.5) < 0.02
        assert np.average(cue, weights=weights) == pytest.approx(
            cue.mean(), abs=0.1
        )


def test_agreement_is_of_all_findings_together():
    train, zig, zag, findings = two_cues()
    named = train.with_label_groups({"zig": zig, "zag": zag})
    trainer = toy.trainer(model_fn=toy.build_text)
    recipe = R.InversePropensitySampling(views=R.FindingGroups(findings))
    recipe.weights(trainer, named)
    found = trainer.notes["agreement"]["FindingGroups"]
    assert found["adjusted_rand"] == 1.0


def test_config():
    _, _, _, findings = two_cues()
    groups = R.FindingGroups(findings)
    config = keras.saving.serialize_keras_object(groups)
    assert keras.saving.deserialize_keras_object(config) == groups


def test_findings_of_other_data():
    _, _, _, findings = two_cues()
    other = kd.data.Split(["a", "b"], [0, 1], label_names=("bad", "good"))
    with pytest.raises(ValueError, match="whose classes are bad, good"):
        R.FindingGroups(findings).cells(None, other)


@pytest.mark.parametrize(
    ("findings", "error", "message"),
    [
        ((), ValueError, "at least one finding"),
        ("zig", TypeError, "findings='zig'"),
        (("zig",), TypeError, "report.findings"),
    ],
)
def test_wrong_calls(findings, error, message):
    with pytest.raises(error, match=message):
        R.FindingGroups(findings)
