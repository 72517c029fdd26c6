"""Wrong calls of every public symbol of the data and evaluation rooms.

Each must end in a `TypeError` or a `ValueError` that names what is wrong. A
new public symbol without a line here fails `test_every_symbol_has_a_line`.
"""

import re

import numpy as np
import pytest

import keras_debias as kd

NOT_CALLED = {
    # Constants, modules, and results that the library itself makes.
    *("CONTENT_FREE", "sources", "Drift", "GroupScore", "LabelReport"),
    *("MetricScore", "Reliance", "Representation", "SplitScore", "Scores"),
    "Run",
    "example_csv",  # takes no argument
    # Criteria without an argument.
    *("Average", "Criterion", "WorstClass"),
}


class Model:
    """Says the first class."""

    def predict(self, x, batch_size=None, verbose=0):
        return np.eye(2)[np.zeros(len(x), int)]


def texts():
    return kd.data.Split(
        ["It rains.", "It snows.", "A dog.", "A cat."],
        ["no", "yes", "no", "yes"],
        groups=["a", "b", "a", "b"],
    )


def features():
    return np.random.default_rng(0).normal(size=(8, 3))


SEEDS = ("0", None, -1, 2**40, 0.5, True)
BATCHES = ("8", 0, -1, 2.5, True)


def _each(function, argument, values, /, **fixed):
    return [
        (
            # Without addresses: every process is to collect the same names.
            f"{argument}={re.sub(' at 0x[0-9a-f]+', '', repr(value))}",
            lambda v=value: function(**{argument: v, **fixed}),
        )
        for value in values
    ]


def _evaluate(**changes):
    plain = texts().with_groups(None)
    return kd.evaluate(**{"model": Model(), "splits": plain, **changes})


def _metric(**changes):
    return kd.metrics.Metric(lambda y_true, y_pred: 0.0, **changes)


def _compare(**changes):
    return kd.compare(
        **{
            "methods": {"plain": kd.recipes.FineTuning()},
            "train": texts(),
            "splits": {"test": texts()},
            "seeds": [0],
            "model_fn": lambda updates: None,
            "budget": kd.recipes.Budget(epochs=1),
            "verbose": 0,
            **changes,
        }
    )


def _reliance(**changes):
    split = texts()
    return kd.evaluation.reliance(
        **{
            "model": Model(),
            "without": split,
            "with_factor": split,
            "target": 0,
            **changes,
        }
    )


def calls():
    """Symbol -> list of pairs of what is wrong, and the call."""
    data, evaluation, metrics = kd.data, kd.evaluation, kd.metrics
    split = texts()
    return {
        "Split": [
            ("x=None", lambda: data.Split(None)),
            ("x=3", lambda: data.Split(3)),
            ("x='text'", lambda: data.Split("text")),
            ("y='no'", lambda: data.Split(["a"], "no")),
            ("y of another length", lambda: data.Split(["a"], [0, 1])),
            ("y=[-2]", lambda: data.Split(["a"], [-2])),
            ("name=3", lambda: data.Split(["a"], name=3)),
            ("groups=3", lambda: data.Split(["a"], groups=3)),
            ("weights as text", lambda: data.Split(["a"], sample_weight=["1"])),
            ("label_names=3", lambda: data.Split(["a"], [0], label_names=3)),
            ("take(None)", lambda: split.take(None)),
            ("partition('0.5')", lambda: split.partition("0.5")),
            ("partition(None)", lambda: split.partition(None)),
            ("partition(True)", lambda: split.partition(True)),
            ("no frame", lambda: data.Split.from_pandas(None, "x")),
            ("no dataset", lambda: data.Split.from_dataset(None, "x")),
            ("no column name", lambda: data.Split.from_csv("a.csv", x=3)),
            ("no folder", lambda: data.Split.from_image_folder(3)),
            ("absent folder", lambda: data.Split.from_image_folder("absent")),
            ("csv=3", lambda: data.Split.from_image_folder("tests", 3)),
            ("no image", lambda: data.Split.from_image_folder("tests/data")),
            ("align_labels(3)", lambda: split.align_labels(3)),
            *_each(split.sample, "seed", SEEDS, n=1),
            *_each(split.sample, "n", ("1", None, 0, -1, 1.5, True, 99)),
            *_each(split.sample, "balance_groups", ("no", None, 1), n=1),
            *_each(split.partition, "seed", SEEDS, fraction=0.5),
            *_each(split.with_label_groups, "overlapping", ("no", None, 1)),
        ],
        "Groups": [
            ("ids as text", lambda: data.Groups(["0"], ["a"])),
            ("names=None", lambda: data.Groups([0], None)),
            ("ids=None", lambda: data.Groups(None, ["a"])),
            ("id without a name", lambda: data.Groups([3], ["a"])),
        ],
        "ImageFiles": [
            *_each(
                data.ImageFiles, "paths", (None, "a.png", [], [3], ["absent"])
            ),
            ("size", lambda: data.ImageFiles(["a.png"], (0, 1))),
        ],
        "OverlappingGroups": _each(
            data.OverlappingGroups,
            "columns",
            (None, {}, [True], {"a": "yes"}, {"a": [0.5]}, {3: [True]}),
        ),
        "duplicates": _each(
            data.duplicates, "splits", (None, 3, {}, {"a": None})
        ),
        "BalancedSampler": _each(
            data.BalancedSampler, "groups", (None, "a", [0.5], [])
        ),
        "CurriculumSampler": [
            *_each(
                data.CurriculumSampler, "difficulty", (None, "a", [-1.0], [])
            ),
            *_each(
                data.CurriculumSampler,
                "start",
                ("0.5", None, 0, 2, float("nan"), True),
                difficulty=[1.0, 2.0],
            ),
            *_each(
                data.CurriculumSampler,
                "growth",
                ("1", None, 0, -1, float("inf"), True),
                difficulty=[1.0, 2.0],
            ),
        ],
        "StratifiedBatchSampler": [
            *_each(
                data.StratifiedBatchSampler,
                "mask",
                (None, "ab", [], [0.5, 1.0]),
                batch_size=4,
            ),
            *_each(
                data.StratifiedBatchSampler,
                "batch_size",
                (*BATCHES, None),
                mask=[True, False, False],
            ),
        ],
        "WeightedSampler": _each(
            data.WeightedSampler, "weights", (None, "ab", [], [0.0], [-1.0])
        ),
        "colored_digits": [
            *_each(data.colored_digits, "seed", SEEDS, correlation=0.9),
            *_each(data.colored_digits, "correlation", ("1", None, 2, -1)),
        ],
        "corrupted": [
            ("no split", lambda: data.corrupted([1, 2], 0.9)),
            ("texts", lambda: data.corrupted(split, 0.9)),
        ],
        "generated_nli": [
            *_each(data.generated_nli, "n", ("9", None, 0, -1, 9.5, True)),
            *_each(data.generated_nli, "seed", SEEDS, n=9),
        ],
        "generated_overlap": [
            *_each(data.generated_overlap, "n", ("9", None, 0, -1, 9.5, True)),
            *_each(data.generated_overlap, "seed", SEEDS, n=9),
        ],
        "inject_token": [
            (
                "no split",
                lambda: data.inject_token(
                    None, "yes", prevalence=1.0, strength=1.0
                ),
            ),
            *_each(
                data.inject_token,
                "seed",
                SEEDS,
                split=split,
                target="yes",
                prevalence=1.0,
                strength=1.0,
            ),
            *_each(
                data.inject_token,
                "prevalence",
                ("1", None, 2, -1, float("nan"), True),
                split=split,
                target="yes",
                strength=1.0,
            ),
        ],
        "load": [
            ("name=None", lambda: data.load(None, "train")),
            ("an unknown split", lambda: data.load("snli", "dev")),
            ("split=3", lambda: data.load("snli", 3)),
        ],
        "low_data": [
            ("no split", lambda: data.low_data(None, "sst2", "low")),
            *_each(
                data.low_data, "task", (None, "x"), split=split, regime="low"
            ),
            *_each(
                data.low_data,
                "seed",
                SEEDS,
                split=split,
                task="sst2",
                regime="low",
            ),
        ],
        "prompt_response": [
            ("prompts=None", lambda: data.prompt_response(None, ["a"], None)),
            ("other lengths", lambda: data.prompt_response(["a"], [], None)),
        ],
        "subsample_classes": [
            ("no split", lambda: data.subsample_classes(None)),
            *_each(
                data.subsample_classes,
                "seed",
                SEEDS,
                split=split,
                ratio={"no": 1, "yes": 1},
            ),
            *_each(
                data.subsample_classes,
                "ratio",
                (3, "no", {"no": "1", "yes": 1}, {"no": None, "yes": 1}, {}),
                split=split,
            ),
        ],
        "sentences": [
            *_each(data.sentences, "domains", ("books", (), ("tweets",) * 2)),
            *_each(data.sentences, "target", (None, "label")),
            *_each(data.sentences, "min_valence", (9.0,)),
        ],
        "skew": [
            ("no split", lambda: data.skew([1, 2])),
            (
                "one value",
                lambda: data.skew(split, {"a": ["b"] * len(split)}),
            ),
            (
                "values of other rows",
                lambda: data.skew(split, {"a": ["b"]}),
            ),
        ],
        "waterbirds": [
            ("no folder", lambda: data.waterbirds(None)),
            ("an empty folder", lambda: data.waterbirds("/nowhere/at/all")),
        ],
        "evaluate": [
            *_each(_evaluate, "model", (None, "model", Model)),
            *_each(_evaluate, "splits", (None, 3, {}, {"": split}, {"a": 3})),
            *_each(_evaluate, "train", (3, "train")),
            *_each(_evaluate, "label_names", (3, "ab", ("a",), ("a", 3))),
            *_each(_evaluate, "from_logits", ("no", 1)),
            *_each(_evaluate, "batch_size", BATCHES),
            *_each(_evaluate, "sum_probabilities", ("no", 1, None)),
            *_each(_evaluate, "min_group_size", ("1", None, 0, -1, 1.5, True)),
            *_each(_evaluate, "bootstrap", ("9", None, -1, 1.5, True)),
            *_each(
                _evaluate,
                "confidence",
                ("1", None, 0, 1, 95, float("nan"), True),
            ),
            *_each(_evaluate, "seed", SEEDS),
            *_each(
                _evaluate,
                "metrics",
                ("auroc", 3, ["auc"], [3], {"": "ece"}, {3: "ece"}, ["rmse"]),
            ),
        ],
        "reliance": [
            *_each(_reliance, "without", (None, 3)),
            *_each(_reliance, "with_factor", (None, split.take([0]))),
            *_each(_reliance, "target", (None, "maybe", 7, -1, True)),
            *_each(_reliance, "batch_size", BATCHES),
            *_each(_reliance, "from_logits", ("no", 1, None)),
        ],
        "comparison_table": _each(
            evaluation.comparison_table, "named_scores", (None, {}, 3, {"a": 3})
        ),
        "plot_comparison": _each(
            evaluation.plot_comparison, "named_scores", (None, {}, 3, {"a": 3})
        ),
        "plot_history": [
            *_each(evaluation.plot_history, "history", (None, 3, {}, [], "a")),
            *_each(
                evaluation.plot_history,
                "logs",
                (["b"], [], "ab"),
                history={"a": [1.0]},
            ),
        ],
        "label_report": [
            ("scores=None", lambda: evaluation.label_report(None, [0])),
            ("labels too large", lambda: evaluation.label_report([[1.0]], [1])),
        ],
        "tune_threshold": [
            ("scores=None", lambda: evaluation.tune_threshold(None, [[1]])),
            *_each(
                evaluation.tune_threshold,
                "steps",
                ("9", None, 0, 1.5, True),
                scores=[[1.0, 0.0]],
                y=[[1, 0]],
            ),
        ],
        "calibrated_scores": [
            ("None", lambda: evaluation.calibrated_scores(None, None)),
            (
                "shapes",
                lambda: evaluation.calibrated_scores([[1.0]], [[1.0, 2.0]]),
            ),
        ],
        "domain_texts": [
            *_each(evaluation.domain_texts, "texts", (None, 3, [], "a b")),
            *_each(
                evaluation.domain_texts,
                "n",
                ("1", None, 0, 1.5, True),
                texts=["a"],
            ),
            *_each(evaluation.domain_texts, "seed", SEEDS, texts=["a"]),
        ],
        "drift": [
            ("None", lambda: evaluation.drift(None, None)),
            ("lengths", lambda: evaluation.drift([1.0], [1.0, 2.0])),
            *_each(
                evaluation.drift,
                "seed",
                SEEDS,
                before=[1.0, 2.0],
                after=[2.0, 1.0],
            ),
        ],
        "answer_accuracy": [
            (
                "no answers",
                lambda: evaluation.answer_accuracy(None, ["a"], []),
            ),
            *_each(
                evaluation.answer_accuracy,
                "batch_size",
                (*BATCHES, None),
                causal_lm=None,
                prompts=["a"],
                answers=["1"],
            ),
        ],
        "answer_nll": [
            ("no answers", lambda: evaluation.answer_nll(None, ["a"], [])),
        ],
        "log_likelihoods": [
            ("no texts", lambda: evaluation.log_likelihoods(None, ["a"], [])),
        ],
        "perplexity": _each(
            evaluation.perplexity,
            "batch_size",
            (*BATCHES, None),
            causal_lm=None,
            texts=["a"],
        ),
        "word_mass": [
            ("no words", lambda: evaluation.word_mass(None, ["a"], [])),
        ],
        "representation": [
            ("None", lambda: evaluation.representation(None, [0], [True])),
            (
                "lengths",
                lambda: evaluation.representation(features(), [0], [True]),
            ),
        ],
        "plot_features": [
            ("None", lambda: evaluation.plot_features(None, [0])),
            ("lengths", lambda: evaluation.plot_features(features(), [0])),
        ],
        "compare": [
            *_each(
                _compare,
                "methods",
                (None, {}, 3, {"": kd.recipes.FineTuning()}, {"a": "ERM"}),
            ),
            *_each(
                _compare,
                "methods",
                [
                    {name: kd.recipes.FineTuning()}
                    for name in ("a\nb", "a\tb", 300 * "a", " ")
                ],
            ),
            *_each(_compare, "train", (None, 3)),
            *_each(_compare, "keep", ("best", "some", 3, True)),
            *_each(_compare, "splits", (None, {}, {"a\nb": split})),
            *_each(
                _compare,
                "seeds",
                (
                    3,
                    None,
                    "01",
                    [],
                    [0, 0],
                    [-1],
                    [2**40],
                    [0.5],
                    [True],
                    ["0"],
                ),
            ),
            *_each(_compare, "model_fn", (None, "model", 3, lambda: None)),
            *_each(_compare, "budget", (None, 3)),
            *_each(_compare, "batch_size", BATCHES),
            *_each(_compare, "min_group_size", ("1", None, 0, 1.5)),
            *_each(_compare, "bootstrap", ("9", None, -1, 1.5)),
            *_each(
                _compare, "criteria", (None, 3, "WorstClass", ["WorstClass"])
            ),
            *_each(_compare, "selection", ("WorstClass", 3)),
            *_each(_compare, "folder", (3, True)),
            *_each(_compare, "prepare_evaluation", (3, lambda: None)),
            *_each(_compare, "validation", (3, "train")),
        ],
        "Comparison": [
            ("methods=None", lambda: kd.comparison.Comparison(None, [])),
            ("methods='a'", lambda: kd.comparison.Comparison("a", [])),
            ("no method", lambda: kd.comparison.Comparison([], [])),
            ("runs=[3]", lambda: kd.comparison.Comparison(["a"], [3])),
            ("load(None)", lambda: kd.comparison.Comparison.load(None)),
            *_each(kd.comparison.Comparison(["a"], []).model, "seed", (0, "0")),
            *_each(
                kd.comparison.Comparison(["a"], []).best,
                "criterion",
                (None, 3, "Average"),
            ),
            (
                "load of nothing",
                lambda: kd.comparison.Comparison.load("/no/no"),
            ),
        ],
        "BiasedDisagreement": _each(
            kd.comparison.BiasedDisagreement, "biased", (None, 3, "no", [])
        ),
        "WorstCell": [
            *_each(kd.comparison.WorstCell, "cells", (None, "a", 3)),
            (
                "min_rows=0",
                lambda: kd.comparison.WorstCell([1, 2], min_rows=0),
            ),
        ],
        "MetricCriterion": [
            *_each(kd.comparison.MetricCriterion, "metric", (None, 3, "auc")),
            *_each(
                kd.comparison.MetricCriterion,
                "worst_group",
                ("yes", None, 1),
                metric="auroc",
            ),
            *_each(
                kd.comparison.MetricCriterion,
                "positive",
                (3, True, ["yes"]),
                metric="f1",
            ),
        ],
        "WorstGroup": _each(
            kd.comparison.WorstGroup,
            "min_group_size",
            ("1", None, 0, 1.5, True),
        ),
        "Metric": [
            *_each(metrics.Metric, "function", (None, 3, "f1", lambda a: 0)),
            *_each(_metric, "higher_is_better", (None, "yes", 1)),
            *_each(_metric, "on", ("logits", 3), higher_is_better=True),
            *_each(_metric, "name", ("", 3), higher_is_better=True),
        ],
        "get": [
            *_each(metrics.get, "metric", (None, 3, "auc", ["ece"])),
            *_each(metrics.get, "positive", (3, True), metric="f1"),
            ("positive", lambda: metrics.get("ece", positive="yes")),
            ("known", lambda: metrics.get("ece", higher_is_better=True)),
        ],
        "accuracy_gap": [
            ("'1'", lambda: metrics.accuracy_gap("1", [0.5])),
            ("None", lambda: metrics.accuracy_gap(None, [0.5])),
        ],
        "group_accuracy": [
            ("lengths", lambda: metrics.group_accuracy([1], [0, 1])),
            ("ids as floats", lambda: metrics.group_accuracy([1], [0.5])),
            ("a negative id", lambda: metrics.group_accuracy([1], [-1])),
            *_each(
                metrics.group_accuracy,
                "num_groups",
                ("1", 0, -1, 1.5),
                correct=[1],
                ids=[0],
            ),
        ],
        "weighted_group_accuracy": [
            (
                "shapes",
                lambda: metrics.weighted_group_accuracy([1.0], [1.0, 2.0]),
            ),
            ("shares", lambda: metrics.weighted_group_accuracy([1.0], [-1.0])),
            ("text", lambda: metrics.weighted_group_accuracy(["a"], [1.0])),
        ],
        "worst_group": [("text", lambda: metrics.worst_group(["a"]))],
    }


ROOMS = ("data", "evaluation", "comparison", "metrics")
CASES = [
    pytest.param(call, id=f"{symbol}: {what}")
    for symbol, lines in calls().items()
    for what, call in lines
]


def test_every_symbol_has_a_line():
    public = {n for room in ROOMS for n in getattr(kd, room).__all__}
    assert public - set(calls()) - NOT_CALLED == set()


@pytest.mark.parametrize("call", CASES)
def test_a_wrong_call_says_what_is_wrong(call):
    with pytest.raises((TypeError, ValueError, FileNotFoundError)) as caught:
        call()
    message = str(caught.value)
    # Words of ours, and none of Python's or NumPy's own.
    assert len(message) > 25, message
    for foreign in (
        "object is not",
        "has no attribute",
        "unsupported operand",
        "not supported between",
        "unexpected keyword",
        "could not convert",
        "invalid literal",
        "cannot unpack",
        "has no len()",
    ):
        assert foreign not in message, message
