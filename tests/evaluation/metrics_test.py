"""Any metric, overall and by group, against scikit-learn and scipy."""

import json
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

import keras_debias as kd
from keras_debias.evaluation import Scores
from keras_debias.evaluation import evaluate

NAMES = ("a", "b", "c")


class Outputs:
    """A model that returns given outputs."""

    def __init__(self, outputs, label_names=None, from_logits=True):
        self.outputs = np.asarray(outputs)
        self.label_names = label_names
        self.from_logits = from_logits

    def predict(self, x, batch_size=None, verbose=0):
        return self.outputs


def split_of(y, names=None, **options):
    return kd.data.Split(np.zeros((len(y), 1)), y, label_names=names, **options)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def case(classes, n=300, weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + np.eye(classes)[y]
    options = {"groups": rng.choice(["left", "mid", "right"], n)}
    if weighted:
        options["sample_weight"] = rng.integers(1, 4, n)
    split = split_of(y, NAMES[:classes], **options)
    return split, logits


def found(split, model, **options):
    options = {"bootstrap": 0, **options}
    return evaluate(model, {"t": split}, **options)["t"].metrics


def calibration_error(y, chances, sample_weight=None):
    """From its definition, bin by bin."""
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == y
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gap = np.average(
                right[inside] * 1.0 - confidence[inside],
                weights=weight[inside],
            )
            total += abs(gap) * weight[inside].sum() / weight.sum()
    return total


def one_class(function, **fixed):
    return lambda y, p, w: function(y, p, sample_weight=w, **fixed)


def rate(of):
    """The false rates, from scikit-learn's table of confusions."""

    def function(y, p, w):
        tn, fp, fn, tp = sk.confusion_matrix(y, p, sample_weight=w).ravel()
        return fp / (fp + tn) if of == "positive" else fn / (fn + tp)

    return function


OF_PREDICTIONS = {
    "accuracy": one_class(sk.accuracy_score),
    "balanced_accuracy": one_class(sk.balanced_accuracy_score),
    "weighted_f1": one_class(sk.f1_score, average="weighted"),
    "macro_f1": one_class(sk.f1_score, average="macro"),
    "micro_f1": one_class(sk.f1_score, average="micro"),
    "matthews": one_class(sk.matthews_corrcoef),
    "exact_match": one_class(sk.accuracy_score),
}
OF_TWO = {
    "f1": one_class(sk.f1_score),
    "precision": one_class(sk.precision_score),
    "recall": one_class(sk.recall_score),
    "false_positive_rate": rate("positive"),
    "false_negative_rate": rate("negative"),
}


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_against_sklearn(weighted):
    for classes in (2, 3):
        split, logits = case(classes, weighted=weighted)
        y, weight = split.y, split.sample_weight
        said, chances = logits.argmax(axis=1), softmax(logits)
        expected = dict(OF_PREDICTIONS) | (OF_TWO if classes == 2 else {})
        wanted = [*expected, "auroc", "auprc", "log_loss", "ece"]
        values = found(split, Outputs(logits), metrics=wanted)
        for name, function in expected.items():
            assert values[name].value == pytest.approx(
                function(y, said, weight)
            ), name
        score = chances[:, 1] if classes == 2 else chances
        truth = y if classes == 2 else np.eye(3)[y]
        options = {"sample_weight": weight}
        assert values["auroc"].value == pytest.approx(
            sk.roc_auc_score(truth, score, **options)
        )
        assert values["auprc"].value == pytest.approx(
            sk.average_precision_score(truth, score, **options)
        )
        assert values["log_loss"].value == pytest.approx(
            sk.log_loss(y, chances, **options)
        )
        assert values["ece"].value == pytest.approx(
            calibration_error(y, chances, weight)
        )


def test_by_group_against_sklearn_and_pandas():
    split, logits = case(2)
    said = logits.argmax(axis=1)
    names = ["f1", "matthews", "false_positive_rate", "auroc"]
    values = found(split, Outputs(logits), metrics=names)
    frame = pd.DataFrame(
        {
            "y": split.y,
            "said": said,
            "score": softmax(logits)[:, 1],
            "group": split.groups.row_names(),
        }
    )
    functions = {
        "f1": lambda part: sk.f1_score(part["y"], part["said"]),
        "matthews": lambda p: sk.matthews_corrcoef(p["y"], p["said"]),
        "false_positive_rate": lambda p: rate("positive")(
            p["y"], p["said"], None
        ),
        "auroc": lambda p: sk.roc_auc_score(p["y"], p["score"]),
    }
    for name, function in functions.items():
        expected = {g: function(part) for g, part in frame.groupby("group")}
        score = values[name]
        assert score.groups == pytest.approx(expected)
        lower = name == "false_positive_rate"
        assert score.higher_is_better is not lower
        pick = max if lower else min
        assert score.worst_group == pick(expected, key=expected.get)
        worst = pick(expected.values())
        assert score.worst == pytest.approx(worst)
        gap = score.value - worst
        assert score.gap == pytest.approx(-gap if lower else gap)
        ratio = worst / score.value
        assert score.ratio == pytest.approx(1 / ratio if lower else ratio)


def test_by_group_as_fairlearn():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    split, logits = case(2, n=500, seed=3)
    functions = {
        "balanced_accuracy_score": sk.balanced_accuracy_score,
        "f1": sk.f1_score,
        "recall": sk.recall_score,
        "false_positive_rate": fairlearn.false_positive_rate,
    }
    said = logits.argmax(axis=1)
    expected = fairlearn.MetricFrame(
        metrics=functions,
        y_true=split.y,
        y_pred=said,
        sensitive_features=split.groups.row_names(),
    )
    values = found(
        split,
        Outputs(logits),
        metrics={
            **{n: n for n in functions if n != "balanced_accuracy_score"},
            "balanced_accuracy_score": sk.balanced_accuracy_score,
        },
    )
    for name in functions:
        assert values[name].value == pytest.approx(expected.overall[name])
        assert values[name].groups == pytest.approx(
            expected.by_group[name].to_dict()
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_against_sklearn_and_scipy(weighted):
    rng = np.random.default_rng(0)
    y = rng.normal(size=200).round(1) + 1e4  # ties, far from zero
    said = y + rng.normal(size=200).round(1)
    weight = rng.integers(1, 4, 200) if weighted else None
    split = split_of(y.astype("float64"), sample_weight=weight)
    values = found(split, Outputs(said[:, None]))
    assert list(values) == ["rmse", "mae", "r2", "pearson", "spearman"]
    options = {"sample_weight": weight}
    rows = np.repeat(np.arange(200), 1 if weight is None else weight)
    expected = {
        "rmse": sk.root_mean_squared_error(y, said, **options),
        "mae": sk.mean_absolute_error(y, said, **options),
        "r2": sk.r2_score(y, said, **options),
        "pearson": stats.pearsonr(y[rows], said[rows]).statistic,
        "spearman": stats.spearmanr(y[rows], said[rows]).statistic,
    }
    assert {n: m.value for n, m in values.items()} == pytest.approx(
        expected, rel=1e-6
    )


def test_several_labels_against_sklearn():
    rng = np.random.default_rng(0)
    gold = (rng.random((200, 4)) < 0.3).astype("int32")
    logits = rng.normal(size=(200, 4)) + 2 * gold - 1
    said, chances = logits > 0, 1 / (1 + np.exp(-logits))
    groups = rng.choice(["x", "y"], 200)
    split = split_of(gold, ("p", "q", "r", "s"), groups=groups)
    names = ["exact_match", "macro_f1", "micro_f1", "weighted_f1", "auroc"]
    names += ["log_loss"]
    values = found(split, Outputs(logits), metrics=names)

    def expected(rows):
        y, p = gold[rows], said[rows]
        return {
            "exact_match": sk.accuracy_score(y, p),
            "macro_f1": sk.f1_score(y, p, average="macro"),
            "micro_f1": sk.f1_score(y, p, average="micro"),
            "weighted_f1": sk.f1_score(y, p, average="weighted"),
            "auroc": sk.roc_auc_score(y, chances[rows]),
            "log_loss": np.mean(
                [sk.log_loss(y[:, i], chances[rows, i]) for i in range(4)]
            ),
        }

    assert {n: m.value for n, m in values.items()} == pytest.approx(
        expected(np.full(200, True))
    )
    for group in ("x", "y"):
        assert {n: m.groups[group] for n, m in values.items()} == (
            pytest.approx(expected(groups == group))
        )
    with pytest.raises(ValueError, match="kinds"):
        found(split, Outputs(logits), metrics=["f1"])
    one = found(
        split,
        Outputs(logits),
        metrics={"q": kd.metrics.get("f1", positive="q")},
    )
    assert one["q"].value == pytest.approx(sk.f1_score(gold[:, 1], said[:, 1]))


def test_functions_and_keras_metrics():
    split, logits = case(2)
    y, said, chances = split.y, logits.argmax(axis=1), softmax(logits)

    def share_of_yes(y_true, y_pred):
        return np.mean(y_pred)

    values = found(
        split,
        Outputs(logits),
        metrics={
            "f1_score": sk.f1_score,
            "zero_one": sk.zero_one_loss,
            "auc": sk.roc_auc_score,
            "sk_log_loss": sk.log_loss,
            "yes": kd.metrics.Metric(share_of_yes, higher_is_better=False),
            "keras_recall": keras.metrics.Recall(),
            "keras_accuracy": keras.metrics.SparseCategoricalAccuracy(),
            "keras_f1": keras.metrics.F1Score("macro"),
        },
    )
    expected = {
        "f1_score": sk.f1_score(y, said),
        "zero_one": sk.zero_one_loss(y, said),
        "auc": sk.roc_auc_score(y, chances[:, 1]),
        "sk_log_loss": sk.log_loss(y, chances),
        "yes": said.mean(),
        "keras_recall": sk.recall_score(y, said),
        "keras_accuracy": sk.accuracy_score(y, said),
        "keras_f1": sk.f1_score(y, said, average="macro"),
    }
    assert {n: m.value for n, m in values.items()} == pytest.approx(
        expected, rel=1e-5
    )
    falling = {n for n, m in values.items() if not m.higher_is_better}
    assert falling == {"zero_one", "sk_log_loss", "yes"}
    left = np.array(split.groups.row_names()) == "left"
    assert values["keras_recall"].groups["left"] == pytest.approx(
        sk.recall_score(y[left], said[left]), rel=1e-5
    )
    numbers = split_of(y + 0.5)
    rmse = keras.metrics.RootMeanSquaredError(name="keras_rmse")
    values = found(numbers, Outputs(logits[:, :1]), metrics=[rmse])
    assert values["keras_rmse"].value == pytest.approx(
        sk.root_mean_squared_error(y + 0.5, logits[:, 0]), rel=1e-5
    )


def test_what_does_not_fit_is_refused():
    split, logits = case(3)
    model = Outputs(logits)
    with pytest.raises(ValueError, match="positive=.*'macro_f1'"):
        found(split, model, metrics=["f1"])
    with pytest.raises(ValueError, match="higher_is_better"):
        found(split, model, metrics=[lambda y_true, y_pred: 0.0])
    with pytest.raises(ValueError, match="one of .*'auroc'.*Received: 'auc'"):
        found(split, model, metrics=["auc"])
    with pytest.raises(ValueError, match="'rmse'.*'class'"):
        found(split, model, metrics=["rmse"])
    with pytest.raises(ValueError, match="different names"):
        found(split, model, metrics=["ece", "ece"])
    with pytest.raises(ValueError, match="'ece'. Received: 'regression'"):
        numbers = split_of(np.zeros(300)[:, None])
        found(numbers, Outputs(logits[:, 0]), metrics=["ece"])
    with pytest.raises(ValueError, match="from_logits=True"):
        kd.metrics.get(
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True)
        )
    weighted, logits = case(2, weighted=True)

    def count_accuracy(y_true, y_pred):
        return np.mean(y_true == y_pred)

    with pytest.raises(ValueError, match="take `sample_weight`"):
        found(weighted, Outputs(logits), metrics=[count_accuracy])


def test_undefined_is_not_zero():
    split, logits = case(2)
    split = split.with_label_groups()
    values = found(
        split,
        Outputs(logits),
        metrics=["recall", "false_positive_rate", "auroc", "matthews"],
    )
    assert values["recall"].groups["label=a"] is None
    assert values["recall"].worst_group == "label=b"
    assert values["false_positive_rate"].worst_group == "label=a"
    assert values["auroc"].groups == {"label=a": None, "label=b": None}
    assert values["auroc"].worst_group is None and values["auroc"].gap is None
    assert values["matthews"].worst is None


def test_intervals_hold_the_truth_and_shrink():
    """Coverage by simulation, and scipy's bootstrap for one sample."""
    inside = 0
    for seed in range(40):
        split, logits = case(2, n=100, seed=seed)
        score = found(
            split.with_groups(None),
            Outputs(logits),
            metrics=["auroc"],
            bootstrap=100,
        )["auroc"]
        # Differences of normals of sd sqrt(2), one apart in each logit.
        truth = stats.norm.cdf(2 / np.sqrt(4))
        inside += score.interval[0] <= truth <= score.interval[1]
    assert inside >= 33  # 38 expected
    split, logits = case(2, n=400)
    said = logits.argmax(axis=1)
    names = ["f1", "ece"]
    values = found(split, Outputs(logits), metrics=names, bootstrap=600)
    once = found(split, Outputs(logits), metrics=[sk.f1_score], bootstrap=40)
    values |= once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = stats.bootstrap(
            (split.y, said),
            sk.f1_score,
            paired=True,
            vectorized=False,
            n_resamples=200,
            method="percentile",
            rng=0,
        ).confidence_interval
    assert values["f1"].interval == pytest.approx(tuple(reference), abs=0.02)
    assert once["f1_score"].interval == pytest.approx(
        tuple(reference), abs=0.04
    )
    for score in values.values():
        assert score.interval[0] <= score.value <= score.interval[1]
        low, high = score.worst_interval
        assert low <= score.worst <= high
        assert score.gap_interval[0] <= score.gap <= score.gap_interval[1]
        assert score.ratio_interval[0] <= score.ratio <= score.ratio_interval[1]
        wide = score.group_intervals[score.worst_group]
        assert np.ptp(wide) > np.ptp(score.interval)


def test_results_are_a_table_a_frame_json_and_a_picture(tmp_path):
    split, logits = case(2)
    scores = evaluate(
        Outputs(logits),
        {"test": split},
        metrics=["auroc", "log_loss"],
        bootstrap=50,
    )
    text = str(scores)
    auroc = scores["test"].metrics["auroc"]
    assert f"{auroc.value:.3f} [{auroc.interval[0]:.3f}" in text
    assert "log_loss (low is good)" in text
    assert f"{auroc.groups['left']:.3f}" in text
    frame = scores.to_frame()
    line = frame.query("metric == 'auroc' and part == 'worst group'").iloc[0]
    assert (line["value"], line["group"]) == (auroc.worst, auroc.worst_group)
    accuracy = frame.query("metric == 'accuracy' and part == 'all rows'")
    assert accuracy["value"].item() == scores["test"].accuracy
    assert set(frame["part"]) == {
        *("all rows", "group", "worst group", "gap", "ratio")
    }
    scores.to_json(tmp_path / "scores.json")
    again = Scores.from_json(tmp_path / "scores.json")
    assert again["test"] == scores["test"]
    json.dumps(scores.to_dict(), allow_nan=False)
    figure = scores.plot(tmp_path / "auroc.png", metric="auroc")
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert [label.split("  ")[0] for label in labels] == [
        *("test", "all rows", "left", "mid", "right")
    ]
    assert (tmp_path / "auroc.png").stat().st_size > 5000
    with pytest.raises(ValueError, match=r"\['auroc', 'log_loss'\]"):
        scores.plot(metric="f1")


def test_regression_scores():
    rng = np.random.default_rng(0)
    y = rng.normal(size=120).astype("float32")
    groups = np.repeat(["near", "far"], 60)
    said = y + rng.normal(size=120) * np.where(groups == "near", 0.1, 1.0)
    split = split_of(y, groups=groups)
    scores = evaluate(Outputs(said), {"sts": split}, bootstrap=50)
    test = scores["sts"]
    assert test.kind == "regression" and test.accuracy is None
    assert test.metrics["rmse"].worst_group == "far"
    assert test.metrics["spearman"].worst_group == "far"
    assert test.notes == ()
    np.testing.assert_allclose(
        scores.predictions["label"].astype(float), y, rtol=1e-6
    )
    assert "accuracy" not in str(scores)
    assert repr(scores).startswith("Scores(sts: rmse ")
    assert Scores.from_dict(scores.to_dict())["sts"] == test
    assert scores.plot().axes
    constant = evaluate(Outputs(np.full(120, 5.0)), split, bootstrap=0)
    assert "always answering the mean" in constant["test"].notes[-1]
    assert constant["test"].metrics["pearson"].value is None
    with pytest.raises(ValueError, match="Expected one output"):
        evaluate(Outputs(np.zeros((120, 2))), split)
    with pytest.raises(ValueError, match="one number a row"):
        evaluate(
            Outputs(np.zeros((120, 2))), split_of(rng.normal(size=(120, 2)))
        )
