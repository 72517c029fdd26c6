import dataclasses
import json
import math
import operator
import pickle

import numpy as np
import pytest
import scipy.stats

import keras_debias as kd
from keras_debias.auditing import AuditReport
from keras_debias.auditing import Feature
from keras_debias.auditing.advice import advise
from keras_debias.auditing.association import associations
from keras_debias.auditing.association import false_discovery_adjusted
from keras_debias.data import Split

NLI = ("entailment", "neutral", "contradiction")


def snli(data_folder, n=5_000):
    """Rows of SNLI's training set; without the folder, made-up ones."""
    if data_folder is not None:
        return kd.data.load("snli", "train", data_folder).sample(n, seed=3)
    pairs = kd.data.generated_nli(4000)
    # What annotators do: half of what they deny begins with "Nobody".
    denied = (pairs.y == 2) & (np.random.default_rng(0).random(4000) < 0.5)
    hypotheses = [
        "Nobody: " + text if deny else text
        for text, deny in zip(pairs.x[1], denied)
    ]
    return Split((pairs.x[0], hypotheses), pairs.y, label_names=NLI)


def shuffled(split, seed):
    labels = np.random.default_rng(seed).permutation(split.y)
    return Split(split.x, labels, label_names=split.label_names)


def found(report, feature, label):
    return [
        finding
        for finding in report.findings
        if str(finding.feature) == feature and finding.label == label
    ]


@pytest.fixture(scope="module")
def split(data_folder):
    return snli(data_folder)


class TestOnText:
    def test_finds_the_injected_token(self, split):
        biased = kd.data.inject_token(split, "entailment", 0.25, 0.90)
        report = kd.audit(biased)
        (first,) = found(report, "hypothesis has '!!'", "entailment")
        assert report.findings.index(first) < 6
        # Of an entailed row 0.25 * 0.9, of another 0.25 * 0.1.
        share = np.mean(split.y == 0)
        expected = 0.9 * share / (0.9 * share + 0.1 * (1 - share))
        assert abs(first.share - expected) < 0.04
        assert first.n == sum("!!" in text for text in biased.x[1])
        assert first.adjusted_p_value < 1e-50
        # The same rows as the groups that the injection made.
        regrouped = first.with_groups(biased)
        assert sorted(regrouped.groups.counts().values()) == sorted(
            biased.groups.counts().values()
        )
        assert report.smallest_group[1] == min(biased.groups.counts().values())
        assert report.advice[0].finding.startswith("A named cue")

    def test_finds_that_negation_goes_with_contradiction(self, split):
        report = kd.audit(split)
        (negation,) = found(
            report, "hypothesis has a negation", "contradiction"
        )
        assert negation.lift > 1.8 and negation.odds_ratio > 3
        (nobody,) = found(report, "hypothesis has 'nobody'", "contradiction")
        assert nobody.share > 0.95
        probes = {probe.name: probe for probe in report.probes}
        assert probes["hypothesis only"].significant
        assert probes["hypothesis only"].gain > 0.1

    @pytest.mark.parametrize("seed", range(3))
    def test_reports_nothing_for_shuffled_labels(self, split, seed):
        # Labels shuffled, and the least difference that can be asked for.
        report = kd.audit(shuffled(split, seed), min_difference=0.0)
        assert report.findings == ()
        assert len(report.probes) == 3
        assert not any(probe.significant for probe in report.probes)
        assert report.tests > 1000
        assert "Nothing goes with a label" in str(report)
        assert [a.finding for a in report.advice] == [
            "No cue that this audit can see."
        ]

    def test_a_token_without_meaning_is_not_reported(self, split):
        fair = kd.data.inject_token(split, "entailment", 0.66, 0.50)
        report = kd.audit(fair, folds=0)
        assert not [f for f in report.findings if f.feature.token == "!!"]

    def test_counts_are_those_of_the_features_themselves(self, split):
        report = kd.audit(split, folds=0)
        seen = set()
        for finding in report.findings:
            if finding.feature.measure in seen:
                continue
            seen.add(finding.feature.measure)
            present = finding.feature.present(split)
            assert present.sum() == finding.n
            label = split.label_names.index(finding.label)
            assert np.mean(split.y[present] == label) == finding.share
            assert np.mean(split.y == label) == finding.prior
        assert {"token", "words", "negations", "overlap"} <= seen

    def test_survives_a_file(self, split, tmp_path):
        biased = kd.data.inject_token(split, "entailment", 0.25, 0.90)
        report = kd.audit(biased, fields=("sentence", "claim"))
        assert found(report, "claim has '!!'", "entailment")
        report.to_json(tmp_path / "audit.json")
        json.loads((tmp_path / "audit.json").read_text())
        assert AuditReport.from_json(tmp_path / "audit.json") == report
        report.plot(tmp_path / "audit.png")
        assert (tmp_path / "audit.png").stat().st_size > 10_000
        frame = report.to_pandas()
        assert len(frame) == len(report.findings)
        assert (frame["lift"] > 1).all() and frame[
            "phi"
        ].is_monotonic_decreasing
        assert "claim has '!!'" in str(report)


class TestOnPictures:
    def test_finds_the_colors(self):
        split = kd.data.colored_digits(0.95)
        report = kd.audit(split)
        hues = {
            finding.label: finding
            for finding in reversed(report.findings)
            if finding.feature.measure == "hue"
        }
        assert set(hues) == set(split.label_names)
        assert str(hues["0"].feature) == "image: red hue"
        for finding in hues.values():
            assert abs(finding.share - 0.95) < 0.05
            assert finding.feature.present(split).sum() == finding.n
        assert report.probes[0].accuracy > 0.85
        assert report.smallest_group[1] < 30

    @pytest.mark.parametrize("seed", range(3))
    def test_reports_nothing_for_shuffled_labels(self, seed):
        split = shuffled(kd.data.colored_digits(0.95), seed)
        report = kd.audit(split, min_difference=0.0)
        assert report.findings == ()
        assert not report.probes[0].significant

    def test_colors_at_random_are_not_reported(self):
        report = kd.audit(kd.data.colored_digits(0.1), folds=0)
        hues = [f for f in report.findings if f.feature.measure == "hue"]
        assert hues == []

    def test_a_background(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 400)
        images = rng.integers(0, 256, (400, 16, 16, 3)).astype("uint8")
        # The border is blue for one class, green for the other.
        images[:, :, [0, 1, 14, 15]] = 0
        images[np.arange(400), :, 0, 2 - labels] = 255
        report = kd.audit(Split(images, labels))
        best = {f.label: str(f.feature) for f in reversed(report.findings)}
        assert best == {
            "0": "image: blue hue of the border",
            "1": "image: green hue of the border",
        }
        grey = kd.audit(Split(images[..., :1], labels), folds=0)
        assert all("hue" not in f.feature.measure for f in grey.findings)
        scaled = Split(images.astype("float32") / 255, labels)
        again = kd.audit(scaled, folds=0).findings
        assert [f.n for f in again] == [f.n for f in report.findings]


def test_features_on_sentences_whose_answer_is_known():
    first = ["The dog isn't here.", "Two cats sleep on 3 mats", "A man ran"]
    second = ["the dog is here", "two cats sleep", "Nobody ran?!"]
    split = Split((first, second), [0, 1, 0])

    def present(measure, low=1.0, column=1, high=None, token=None):
        feature = Feature("text", measure, column, token, low, high)
        return feature.present(split).tolist()

    assert present("negations", column=0) == [True, False, False]
    assert present("negations") == [False, False, True]
    assert present("token", token="isn't", column=0) == [True, False, False]
    assert present("token", token="?!") == [False, False, True]
    assert present("final stop", column=0) == [True, False, False]
    assert present("numbers", column=0) == [False, True, False]
    assert present("question marks") == [False, False, True]
    assert present("exclamation marks") == [False, False, True]
    assert present("words", low=3) == [True, True, False]
    assert present("words", low=None, high=2) == [False, False, True]
    assert present("overlap") == [False, True, False]
    assert present("overlap", low=0.75) == [True, True, False]
    assert present("contiguous") == [False, True, False]
    assert present("added words", low=0) == [True, False, False]


def test_the_test_is_exact():
    """Against an enumeration of all tables, and against scipy's own."""
    rng = np.random.default_rng(0)
    presence = (rng.random((40, 6)) < 0.3).astype("float64")
    labels = np.eye(3)[rng.integers(0, 3, 40)]
    result = associations(
        presence.T @ labels,
        presence.sum(axis=0).reshape(-1, 1),
        labels.sum(axis=0).reshape(1, -1),
        40,
    )
    for f in range(6):
        for c in range(3):
            both = int(presence[:, f] @ labels[:, c])
            a, b = int(presence[:, f].sum()), int(labels[:, c].sum())
            tail = sum(
                math.comb(b, k) * math.comb(40 - b, a - k)
                for k in range(both, min(a, b) + 1)
            ) / math.comb(40, a)
            assert result["p_value"][f, c] == pytest.approx(tail)
            correlation = np.corrcoef(presence[:, f], labels[:, c])[0, 1]
            assert result["phi"][f, c] == pytest.approx(correlation)
            table = [[both, a - both], [b - both, 40 - a - b + both]]
            fisher = scipy.stats.fisher_exact(table, alternative="greater")
            assert result["p_value"][f, c] == pytest.approx(fisher.pvalue)
            assert result["share"][f, c] == pytest.approx(both / a)
    # Benjamini and Hochberg: the running minimum of m p / rank.
    p = result["p_value"].ravel()
    order = np.argsort(p)
    adjusted = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum.accumulate(adjusted[::-1])[::-1]
    np.testing.assert_allclose(
        false_discovery_adjusted(result["p_value"]).ravel()[order],
        np.minimum(adjusted, 1),
    )


def test_several_labels_a_row():
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 3)) < [0.3, 0.5, 0.2]).astype("float32")
    texts = ["so glad it works" if row[0] else "it works" for row in labels]
    split = Split(texts, labels, label_names=("joy", "anger", "fear"))
    report = kd.audit(split)
    assert {f.label for f in report.findings} == {"joy"}
    assert {"glad", "so"} <= {f.feature.token for f in report.findings}
    assert report.probes == ()


def test_the_function_and_the_package_are_both_reachable():
    assert kd.audit is kd.auditing.audit
    assert callable(kd.audit)
    report = kd.audit(shuffled(snli(None), 0), folds=0)
    assert isinstance(report, kd.auditing.AuditReport)
    assert repr(report) == (
        "AuditReport(name=None, n=4000, findings=0, probes=0)"
    )
    # Pickle looks classes up by the package's name.
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        (Split(["a", "b"], [0, 0]), {}, "two classes.*'0'"),
        (Split(["a", "b"]), {}, "one integer label"),
        (Split(["a", "b"], [0.5, 1.5]), {}, "min_count=20"),
        (Split(["a", "b"], [0, 1]), {}, "min_count=20"),
        (Split(["a", "b"], [0, 1]), {"min_count": 0}, "min_count=0"),
        (Split(["a", "b"], [0, 1]), {"folds": 1}, "folds=1"),
        (Split(["a", "b"], [0, 1]), {"fields": ("x", "y")}, "1 names"),
        (Split(["a", "b"], [0, 1]), {"min_difference": 1}, "min_difference=1"),
        (
            Split(["a", "b"], [0, 1]),
            {"false_discovery_rate": 0},
            "false_discovery_rate=0",
        ),
        (
            Split(["a b"] * 30 + ["b"] * 30, [0] * 57 + [1] * 3),
            {},
            "a class with 3",
        ),
    ],
)
def test_bad_input(split, arguments, message):
    with pytest.raises(ValueError, match=message):
        kd.audit(split, **arguments)


def test_other_inputs():
    with pytest.raises(TypeError, match="texts.*images"):
        kd.audit(Split(np.zeros((4, 3)), [0, 1, 0, 1]))
    with pytest.raises(TypeError, match="`Split`"):
        kd.audit(["a", "b"])
    texts = {"title": ["so good", "bad"] * 50, "stars": np.zeros((100, 2))}
    report = kd.audit(Split(texts, [1, 0] * 50), folds=0)
    assert {f.feature.field for f in report.findings} == {"title"}
    assert report.findings[0].feature.present(Split(texts, [1, 0] * 50)).any()
    with pytest.raises(ValueError, match="no field"):
        report.findings[0].feature.present(Split({"name": ["a"]}, [0]))


def test_the_advice_names_what_there_is(split):
    """Every piece of advice that can be given, by reports made for it."""
    few = {"label=a, cue=yes": 3, "label=a, cue=no": 97}
    report = kd.audit(kd.data.inject_token(split, "entailment", 0.25, 0.90))
    reports = [
        report,
        dataclasses.replace(report, findings=(), probes=()),
        dataclasses.replace(report, groups=few),
        dataclasses.replace(
            report, label_counts={"a": 1, "b": report.n - 1}, findings=()
        ),
    ]
    given = [advice for r in reports for advice in advise(r)]
    assert len({advice.finding.split(":")[0] for advice in given}) == 5
    for advice in given:
        for method in advice.methods:
            assert callable(operator.attrgetter(method)(kd)), method
