"""Excess errors tell a shortcut from a cue that belongs to the task."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats

import keras_debias as kd
from keras_debias.auditing.association import stratified_p_value

FILLER = "the a one some this that here there today again".split()


def planted(n=1200, seed=0):
    """Texts of two classes with an honest word, and a shortcut.

    "great" is content: it goes with the class "good", and the model is as
    accurate on rows of "bad" that have it. "!!" goes with "good" as often,
    and the model takes it for the class.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    honest = rng.random(n) < np.where(y == 1, 0.7, 0.2)
    shortcut = rng.random(n) < np.where(y == 1, 0.7, 0.2)
    texts = [
        " ".join(
            [*rng.choice(FILLER, 4), *["great"] * h, *["!!"] * s],
        )
        for h, s in zip(honest.tolist(), shortcut.tolist())
    ]
    split = kd.data.Split(texts, y, label_names=("bad", "good"))
    wrong = rng.random(n) < np.where((y == 0) & shortcut, 0.6, 0.1)
    return split, np.where(wrong, 1 - y, y), honest, shortcut


def by_token(report):
    return {f.feature.token: f for f in report.findings}


class TestShortcutAndHonestCue:
    def test_excess_errors_tell_them_apart(self):
        split, predicted, honest, shortcut = planted()
        report = kd.audit(split, predictions=predicted, folds=0)
        found = by_token(report)
        # Without predictions the two look alike.
        assert abs(found["great"].phi - found["!!"].phi) < 0.1
        assert found["!!"].harm.significant
        assert not found["great"].harm.significant
        assert report.by_harm().findings[0].feature.token == "!!"
        assert report.error_rate == np.mean(predicted != split.y)
        # Counted by hand.
        harm, bad = found["!!"].harm, split.y == 0
        hit = predicted == 1
        assert harm.n == (bad & shortcut).sum()
        assert harm.errors == (bad & shortcut & hit).sum()
        assert harm.error_rate_with == hit[bad & shortcut].mean()
        assert harm.error_rate_without == pytest.approx(
            hit[bad & ~shortcut].mean()
        )
        assert harm.excess_errors == pytest.approx(
            harm.errors - harm.n * hit[bad & ~shortcut].mean()
        )
        table = [
            [harm.errors, harm.n - harm.errors],
            [
                (bad & ~shortcut & hit).sum(),
                (bad & ~shortcut & ~hit).sum(),
            ],
        ]
        fisher = scipy.stats.fisher_exact(table, alternative="greater")
        assert harm.p_value == pytest.approx(fisher.pvalue)

    def test_advice_names_the_harmful_cue_or_none(self):
        split, predicted, *_ = planted()
        report = kd.audit(split, predictions=predicted, folds=0)
        assert "'!!'" in report.advice[0].finding
        report = kd.audit(split, predictions=split.y, folds=0)
        assert "costs nothing" in report.advice[0].finding
        assert report.error_rate == 0.0

    @pytest.mark.parametrize("seed", range(5))
    def test_shuffled_predictions_do_no_harm(self, seed):
        split, predicted, *_ = planted(seed=seed)
        rng = np.random.default_rng(seed)
        predicted = rng.permutation(predicted)
        report = kd.audit(split, predictions=predicted, folds=0)
        assert {"great", "!!"} <= set(by_token(report))
        assert not any(f.harm.significant for f in report.findings)

    def test_forms_of_predictions_agree(self):
        split, predicted, *_ = planted(400)
        names = np.array(split.label_names)[predicted]
        probabilities = np.eye(2)[predicted] * 0.6 + 0.2
        expected = kd.audit(split, predictions=predicted, folds=0)
        for same in (names, names.tolist(), probabilities):
            assert kd.audit(split, predictions=same, folds=0) == expected


class TestReport:
    def test_survives_a_file(self, tmp_path):
        split, predicted, *_ = planted()
        report = kd.audit(split, predictions=predicted).by_harm()
        report.to_json(tmp_path / "audit.json")
        json.loads((tmp_path / "audit.json").read_text())
        again = kd.auditing.AuditReport.from_json(tmp_path / "audit.json")
        assert again == report
        frame = report.to_pandas()
        assert frame["harmful"].tolist()[0]
        assert "excess" in str(report) and "harmful" in str(report)

    def test_html_is_whole_and_escaped(self, tmp_path):
        split, predicted, *_ = planted()
        texts = [t.replace("!!", "<script>") for t in split.x]
        split = kd.data.Split(
            texts, split.y, label_names=("<b>", "good"), name="a & b"
        )
        report = kd.audit(split, predictions=predicted)
        report.to_html(tmp_path / "audit.html")
        page = (tmp_path / "audit.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert "<script>" not in page
        assert "text has '<'" not in page and "&#x27;&lt;&#x27;" in page
        assert "a &amp; b" in page and "&lt;b&gt;" in page
        assert "<svg" in page
        assert "excess" in page
        assert "<!DOCTYPE" not in report._repr_html_()

    def test_harm_needs_predictions(self):
        split, *_ = planted(400)
        report = kd.audit(split, folds=0)
        assert all(finding.harm is None for finding in report.findings)
        with pytest.raises(ValueError, match="predictions"):
            report.by_harm()

    def test_examples_are_rows_for_and_against(self):
        split, _, _, shortcut = planted()
        finding = by_token(kd.audit(split, folds=0))["!!"]
        frame = finding.examples(split, 4)
        assert frame["example"].tolist() == ["for"] * 4 + ["against"] * 4
        assert frame["label"].tolist() == ["good"] * 4 + ["bad"] * 4
        assert shortcut[frame["row"]].all()
        assert frame["text"].tolist() == split.x[frame["row"]].tolist()
        with pytest.raises(ValueError, match="n=0"):
            finding.examples(split, 0)
        other = kd.data.Split(["a !!"], ["x"])
        with pytest.raises(ValueError, match="label 'good'"):
            finding.examples(other)

    def test_distinct_findings_are_not_correlated(self):
        split, predicted, honest, shortcut = planted()
        # A third word says the same as the shortcut in nine of ten rows.
        rng = np.random.default_rng(9)
        copy = shortcut ^ (rng.random(len(split)) < 0.02)
        texts = [t + " wow" * c for t, c in zip(split.x, copy.tolist())]
        split = kd.data.Split(texts, split.y, label_names=split.label_names)
        report = kd.audit(split, predictions=predicted, folds=0).by_harm()
        tokens = [f.feature.token for f in report.findings[:3]]
        assert tokens[0] == "!!" and "wow" in tokens
        chosen = report.distinct(split, n=2)
        assert chosen[0] == report.findings[0]
        columns = [f.feature.present(split) for f in chosen]
        assert abs(np.corrcoef(columns)[0, 1]) < 0.3
        near = report.distinct(split, n=2, max_phi=0.99)
        assert [f.feature.token for f in near] == ["!!", "wow"]
        assert len(report.distinct(split, n=10_000)) < len(report.findings)
        with pytest.raises(ValueError, match="max_phi=0"):
            report.distinct(split, max_phi=0)


class TestSeveralClasses:
    def test_errors_are_compared_within_classes(self):
        """A class that is confused with another does not look like harm."""
        rng = np.random.default_rng(0)
        n = 3000
        y = rng.integers(0, 3, n)
        # "not" is frequent in 2 and 1; 1 is often predicted as 2, whether a
        # row has it or not; 0 never is. "no" pulls 0 and 1 towards 2.
        word = rng.random(n) < np.array([0.1, 0.5, 0.8])[y]
        cue = rng.random(n) < np.array([0.2, 0.2, 0.6])[y]
        rate = np.array([0.02, 0.4, 1.0])[y] + 0.3 * (cue & (y < 2))
        predicted = np.where(rng.random(n) < rate, 2, y)
        texts = [
            " ".join([*rng.choice(FILLER, 3), *["not"] * w, *["no"] * c])
            for w, c in zip(word.tolist(), cue.tolist())
        ]
        split = kd.data.Split(texts, y)
        report = kd.audit(split, predictions=predicted, folds=0)
        found = {f.feature.token: f for f in report.findings if f.label == "2"}
        assert found["no"].harm.significant
        assert not found["not"].harm.significant
        # Pooled over the classes, "not" would have looked harmful.
        others = y < 2
        hit = predicted == 2
        pooled = hit[others & word].mean() - hit[others & ~word].mean()
        assert pooled > 0.1
        harm = found["no"].harm
        excess = sum(
            (hit & cue & (y == c)).sum()
            - (cue & (y == c)).sum() * hit[~cue & (y == c)].mean()
            for c in (0, 1)
        )
        assert harm.excess_errors == pytest.approx(excess)

    def test_a_predicted_class_that_no_row_has(self):
        split, predicted, *_ = planted(400)
        split = kd.data.Split(
            split.x, split.y, label_names=("bad", "good", "neutral")
        )
        predicted = np.where(np.arange(400) % 10 == 0, 2, predicted)
        report = kd.audit(split, predictions=predicted, folds=0)
        hit, bad = predicted == 1, split.y == 0
        finding = by_token(report)["!!"]
        present = finding.feature.present(split)
        assert finding.harm.errors == (hit & bad & present).sum()

    def test_several_labels_for_each_row(self):
        rng = np.random.default_rng(0)
        n = 2000
        y = (rng.random((n, 2)) < 0.4).astype("float32")
        cue = rng.random(n) < np.where(y[:, 0] == 1, 0.7, 0.2)
        said = y.copy()
        said[:, 0] = np.where(
            (y[:, 0] == 0) & cue, rng.random(n) < 0.5, y[:, 0]
        )
        texts = ["so glad" if c else "so it goes" for c in cue]
        split = kd.data.Split(texts, y, label_names=("joy", "fear"))
        report = kd.audit(split, predictions=said)
        harm = by_token(report)["glad"].harm
        assert harm.significant
        assert harm.errors == (said[:, 0] > y[:, 0]).sum()
        null = kd.audit(split, predictions=y)
        assert not any(f.harm.significant for f in null.findings)


def test_the_stratified_test_is_exact():
    """Against all tables with the margins of three strata."""
    strata = [(2, 5, 4, 9), (1, 3, 6, 8), (3, 4, 5, 7)]

    def tables(feature, outcome, n):
        low, high = max(0, feature + outcome - n), min(feature, outcome)
        for both in range(low, high + 1):
            yield (
                both,
                scipy.stats.hypergeom.pmf(both, n, outcome, feature),
            )

    observed = sum(both for both, *_ in strata)
    tail = 0.0
    for cells in itertools.product(*(tables(*s[1:]) for s in strata)):
        if sum(both for both, _ in cells) >= observed:
            tail += np.prod([p for _, p in cells])
    assert stratified_p_value(*zip(*strata)) == pytest.approx(tail)
    # Strata with one possible table change nothing.
    more = [*strata, (0, 0, 3, 9), (4, 4, 9, 9)]
    assert stratified_p_value(*zip(*more)) == pytest.approx(tail)
    assert stratified_p_value([3], [3], [9], [9]) == 1.0
    # Large counts, against scipy.
    for both in (20_200, 20_800):
        counts = both, 50_000, 400_000, 1_000_000
        p = stratified_p_value(*([count] for count in counts))
        expected = scipy.stats.hypergeom.sf(both - 1, *counts[:0:-1])
        assert p == pytest.approx(expected, rel=1e-6)


def test_the_stratified_test_keeps_its_level():
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        sizes = rng.integers(20, 60, 3)
        strata = []
        for n in sizes:
            cue = rng.random(n) < rng.uniform(0.2, 0.8)
            hit = rng.random(n) < rng.uniform(0.1, 0.5)
            strata.append(((cue & hit).sum(), cue.sum(), hit.sum(), n))
        rejected += stratified_p_value(*zip(*strata)) < 0.05
    assert rejected < scipy.stats.binom.isf(1e-3, 400, 0.05)
    assert rejected > 2


def split_of(*labels, names=None):
    texts = ["so good", "so bad"] * (len(labels) // 2)
    return kd.data.Split(texts, list(labels), label_names=names)


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        ([0, 1], ValueError, "each of the 60 rows.*another split"),
        (1, ValueError, "a scalar"),
        ([0, 5] * 30, ValueError, "class ids from 0 to 1.*5 in row 1"),
        ([-1, 1] * 30, ValueError, "class ids from 0 to 1"),
        (["bad", "ugly"] * 30, ValueError, "'ugly'.*another split"),
        (np.full(60, 0.7), TypeError, r"p > 0\.5"),
        (np.zeros((60, 3)), ValueError, r"shape \(n, 2\)"),
        (np.full((60, 2), np.nan), ValueError, "finite"),
        (np.zeros((60, 2, 2)), TypeError, r"\(60, 2, 2\)"),
    ],
)
def test_predictions_that_do_not_fit(predictions, error, message):
    split = split_of(*[1, 0] * 30, names=("bad", "good"))
    for target in ("labels", "errors"):
        with pytest.raises(error, match=message):
            kd.audit(split, target=target, predictions=predictions, folds=0)


def test_predictions_of_another_kind_of_label():
    split = split_of(*[1, 0] * 30)
    with pytest.raises(ValueError, match="class ids.*label_names"):
        kd.audit(split, predictions=["good", "bad"] * 30, folds=0)
    multi = kd.data.Split(["so good", "bad"] * 30, np.eye(2)[[0, 1] * 30])
    with pytest.raises(ValueError, match="zeros and ones.*threshold"):
        kd.audit(multi, predictions=np.full((60, 2), 0.3))
