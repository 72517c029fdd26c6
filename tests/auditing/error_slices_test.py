"""`target="errors"`: named slices on which a model fails."""

import numpy as np
import pytest
import scipy.stats

import keras_debias as kd

FILLER = "the a one some this that here there today again".split()


def planted(n=2000, rate=0.5, seed=0, classes=2):
    """The model is wrong in one row of ten, and more in class 1 with "cafe"."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    token = rng.random(n) < 0.15
    texts = [
        " ".join([*rng.choice(FILLER, 4), *["cafe"] * t])
        for t in token.tolist()
    ]
    wrong = rng.random(n) < np.where((y == 1) & token, rate, 0.1)
    names = ("negative", "positive", "neutral")[:classes]
    split = kd.data.Split(texts, y, label_names=names, name="reviews")
    return split, np.where(wrong, (y + 1) % classes, y), token


@pytest.mark.parametrize("classes", [2, 3])
def test_finds_the_planted_slice_in_its_class(classes):
    split, predicted, token = planted(3000, classes=classes)
    report = kd.audit(split, target="errors", predictions=predicted)
    assert report.target == "errors" and report.probes == ()
    first = report.findings[0]
    assert (first.feature.token, first.label) == ("cafe", "positive")
    assert {f.label for f in report.findings} == {"positive"}
    # Counted by hand, and Fisher's test by scipy.
    own = split.y == 1
    wrong = predicted != split.y
    assert first.n == (own & token).sum()
    assert first.errors == (own & token & wrong).sum()
    assert first.error_rate_with == wrong[own & token].mean()
    assert first.error_rate_without == pytest.approx(wrong[own & ~token].mean())
    assert first.excess_errors == pytest.approx(
        first.errors - first.n * first.error_rate_without
    )
    table = np.array(
        [
            [(own & t & w).sum() for w in (wrong, ~wrong)]
            for t in (token, ~token)
        ]
    )
    fisher = scipy.stats.fisher_exact(table, alternative="greater")
    assert first.p_value == pytest.approx(fisher.pvalue)
    assert first.phi == pytest.approx(np.corrcoef(token[own], wrong[own])[0, 1])
    assert first.adjusted_p_value >= first.p_value
    assert report.by_harm().findings[0] == first


@pytest.mark.parametrize("seed", range(5))
def test_random_errors_give_no_slice(seed):
    split, predicted, _ = planted(rate=0.1, seed=seed)
    report = kd.audit(
        split, target="errors", predictions=predicted, min_difference=0.0
    )
    assert report.findings == () and report.tests > 20
    assert "No feature goes with errors" in str(report)


def test_report_of_slices(tmp_path):
    split, predicted, token = planted()
    report = kd.audit(split, target="errors", predictions=predicted)
    assert "class positive" in report.advice[0].finding
    assert "text has 'cafe'" in str(report) and "wrong without" in str(report)
    report.to_json(tmp_path / "errors.json")
    again = kd.auditing.AuditReport.from_json(tmp_path / "errors.json")
    assert again == report
    assert isinstance(again.findings[0], kd.auditing.ErrorSlice)
    report.to_html(tmp_path / "errors.html")
    assert "cafe" in (tmp_path / "errors.html").read_text(encoding="utf-8")
    report.plot(tmp_path / "errors.png")
    assert (tmp_path / "errors.png").stat().st_size > 10_000
    assert report.to_pandas()["errors"].tolist()[0] == report.findings[0].errors
    slice_ = report.findings[0]
    frame = slice_.examples(split, predicted, 3)
    assert frame["example"].tolist() == ["wrong"] * 3 + ["right"] * 3
    rows = frame["row"].to_numpy()
    assert token[rows].all() and (split.y[rows] == 1).all()
    assert (predicted[rows] != split.y[rows]).tolist() == [True] * 3 + [
        False
    ] * 3
    grouped = slice_.with_groups(split)
    assert slice_.n in grouped.groups.counts().values()
    assert report.distinct(split, n=1) == (slice_,)


def test_several_labels_for_each_row():
    rng = np.random.default_rng(0)
    n = 2000
    y = (rng.random((n, 2)) < 0.5).astype("float32")
    token = rng.random(n) < 0.2
    missed = (y[:, 0] == 1) & (rng.random(n) < np.where(token, 0.6, 0.1))
    said = y.copy()
    said[missed, 0] = 0
    texts = ["it is fine cafe" if t else "it is fine" for t in token]
    split = kd.data.Split(texts, y, label_names=("joy", "fear"))
    report = kd.audit(split, target="errors", predictions=said)
    assert {f.label for f in report.findings} == {"joy"}
    assert report.findings[0].feature.token == "cafe"
    assert report.error_rate == pytest.approx(missed.mean())
    # Said where it is not: errors of the rows without the label.
    said = y.copy()
    said[(y[:, 1] == 0) & token, 1] = 1
    report = kd.audit(split, target="errors", predictions=said)
    assert {f.label for f in report.findings} == {"not fear"}


def test_bad_input():
    split, predicted, _ = planted(400)
    with pytest.raises(ValueError, match="predictions=None"):
        kd.audit(split, target="errors")
    with pytest.raises(ValueError, match="target='wrong'"):
        kd.audit(split, target="wrong", predictions=predicted)
    with pytest.raises(ValueError, match="some are wrong.*out-of-fold"):
        kd.audit(split, target="errors", predictions=split.y)


class TestGroupAttributes:
    def split(self, n=1500, seed=0):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, n)
        source = np.where(
            rng.random(n) < np.where(y == 1, 0.8, 0.3), "web", "mail"
        )
        gender = rng.choice(["f", "m"], n)
        texts = [" ".join(rng.choice(FILLER, 4)) for _ in range(n)]
        split = kd.data.Split(texts, y, label_names=("no", "yes"))
        return split.with_label_groups({"source": source, "gender": gender})

    def test_an_attribute_that_goes_with_the_label(self):
        split = self.split()
        report = kd.audit(split, folds=0)
        assert report.findings == ()
        found = {(str(f.feature), f.label) for f in report.group_findings}
        assert found == {
            ("source is 'web'", "yes"),
            ("source is 'mail'", "no"),
        }
        assert "group attributes" in str(report)
        finding = report.group_findings[0]
        present = finding.feature.present(split)
        assert present.sum() == finding.n
        again = kd.auditing.AuditReport.from_dict(report.to_dict())
        assert again == report
        with pytest.raises(ValueError, match="attribute 'source'"):
            finding.feature.present(split.with_groups(None))

    def test_shuffled_labels(self):
        split = self.split()
        labels = np.random.default_rng(1).permutation(split.y)
        groups = [name.split(", ", 1)[1] for name in split.groups.names]
        split = kd.data.Split(
            split.x, labels, np.array(groups)[split.groups.ids].tolist()
        )
        report = kd.audit(split, folds=0, min_difference=0.0)
        assert report.group_findings == ()

    def test_groups_of_other_names(self):
        y = np.array([0, 1] * 200)
        groups = np.where(np.arange(400) % 8 < 5, y, 1 - y)
        groups = [("on land", "at sea, far")[g] for g in groups]
        texts = ["here it is", "there it was", "so"] * 133 + ["so"]
        split = kd.data.Split(texts, y, groups)
        found = kd.audit(split, folds=0).group_findings
        assert {str(f.feature) for f in found} == {
            "group is 'on land'",
            "group is 'at sea, far'",
        }
        same = split.with_groups([("x", "y")[label] for label in y])
        assert kd.audit(same, folds=0).group_findings == ()

    @pytest.mark.parametrize("by_label", [False, True])
    def test_groups_that_overlap(self, by_label):
        split = self.split()
        names = np.array(split.groups.names)[split.groups.ids]
        web = np.array(["source=web" in name for name in names])
        split = split.with_groups(
            kd.data.OverlappingGroups(
                {"web": web, "long": np.arange(len(split)) % 3 == 0}
            )
        )
        if by_label:
            columns = dict(zip(split.groups.names, split.groups.matrix.T))
            split = split.with_label_groups(columns, overlapping=True)
        report = kd.audit(split, folds=0)
        assert {(str(f.feature), f.label) for f in report.group_findings} == {
            ("web is 'yes'", "yes"),
            ("web is 'no'", "no"),
        }
        for found in report.group_findings:
            has = web if found.feature.token == "yes" else ~web
            np.testing.assert_array_equal(found.feature.present(split), has)
            right = split.y == split.label_names.index(found.label)
            assert found.share == pytest.approx(right[has].mean())

    def test_errors_of_an_attribute(self):
        split = self.split()
        rng = np.random.default_rng(2)
        female = np.array(
            ["gender=f" in split.groups.names[i] for i in split.groups.ids]
        )
        rate = np.where((split.y == 0) & female, 0.5, 0.1)
        wrong = rng.random(len(split)) < rate
        report = kd.audit(
            split,
            target="errors",
            predictions=np.where(wrong, 1 - split.y, split.y),
        )
        assert report.findings == ()
        (found,) = report.group_findings
        assert (str(found.feature), found.label) == ("gender is 'f'", "no")
