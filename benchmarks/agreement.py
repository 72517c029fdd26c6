"""Metrics of `kd.evaluate` beside those of the packages that define them.

    python benchmarks/agreement.py

Prints one line for each metric: the package, our value over all rows, its
value, and the largest difference over all rows and over three groups. Rows
have weights where the package takes them. Groups are compared with fairlearn's
`MetricFrame` for metrics of classes. Ends with status 1 where a difference is
above 1e-9. Needs the packages of the extra `test`; takes seconds.
"""

import functools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fairlearn.metrics
import numpy as np
import sacrebleu
from rouge_score import rouge_scorer
from scipy import stats
from sklearn import metrics as sk

import keras_debias as kd
from keras_debias.metrics.metric_data import MetricData

ROWS = 600
LARGEST = 1e-9
GROUPS = ("left", "middle", "right")


class Outputs:
    """A model that returns given outputs."""

    from_logits = False

    def __init__(self, outputs):
        self.outputs = outputs

    def predict(self, x, batch_size=None, verbose=0):
        return self.outputs


def rate(hit, y, p, sample_weight):
    tn, fp, fn, tp = sk.confusion_matrix(
        y, p, sample_weight=sample_weight
    ).ravel()
    return fp / (fp + tn) if hit == "positive" else fn / (fn + tp)


OF_CLASSES = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "weighted_f1": functools.partial(sk.f1_score, average="weighted"),
    "macro_f1": functools.partial(sk.f1_score, average="macro"),
    "f1": sk.f1_score,
    "matthews": sk.matthews_corrcoef,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "false_positive_rate": functools.partial(rate, "positive"),
    "false_negative_rate": functools.partial(rate, "negative"),
}
OF_SCORES = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "log_loss": functools.partial(sk.log_loss, labels=[0, 1]),
}
OF_LABELS = {
    "exact_match": sk.accuracy_score,
    "micro_f1": functools.partial(sk.f1_score, average="micro"),
    "macro_f1": functools.partial(
        sk.f1_score, average="macro", zero_division=0
    ),
}
OF_NUMBERS = {
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
}


def scored(outputs, y, metrics, weight=None, groups=None):
    """The metrics of `kd.evaluate`, by name."""
    split = kd.data.Split(
        np.zeros((len(y), 1)), y, {"side": groups}, sample_weight=weight
    )
    scores = kd.evaluate(
        Outputs(outputs), {"t": split}, metrics=list(metrics), bootstrap=0
    )
    return scores["t"].metrics


def compared(package, name, score, reference, groups):
    """One line: the reference is a function of rows."""
    pairs = [(score.value, reference(np.ones(len(groups), bool)))]
    for group in GROUPS:
        value = score.groups[f"side={group}"]
        pairs.append((value, reference(groups == group)))
    difference = max(abs(ours - theirs) for ours, theirs in pairs)
    return package, name, *pairs[0], difference


def of_classes(rng, groups):
    y = rng.integers(0, 2, ROWS)
    chances = 1 / (1 + np.exp(-rng.normal(2 * y - 1)))
    weight = rng.integers(1, 4, ROWS).astype("float64")
    said = (chances > 0.5).astype(int)
    outputs = np.stack([1 - chances, chances], axis=1)
    wanted = {**OF_CLASSES, **OF_SCORES}
    weighted = scored(outputs, y, wanted, weight, groups)
    for name, function in wanted.items():
        of = said if name in OF_CLASSES else chances
        yield compared(
            "scikit-learn",
            name,
            weighted[name],
            lambda rows, f=function, of=of: f(
                y[rows], of[rows], sample_weight=weight[rows]
            ),
            groups,
        )
    plain = scored(outputs, y, OF_CLASSES, None, groups)
    frame = fairlearn.metrics.MetricFrame(
        metrics={
            name: functools.partial(function, sample_weight=None)
            for name, function in OF_CLASSES.items()
        },
        y_true=y,
        y_pred=said,
        sensitive_features=groups,
    )
    for name in OF_CLASSES:
        differences = [plain[name].value - frame.overall[name]]
        for group, value in frame.by_group[name].items():
            differences.append(plain[name].groups[f"side={group}"] - value)
        yield (
            "fairlearn",
            name,
            plain[name].value,
            frame.overall[name],
            max(map(abs, differences)),
        )


def of_labels(rng, groups):
    y = (rng.random((ROWS, 4)) < 0.4).astype("int64")
    chances = np.clip(0.25 + 0.5 * y + rng.normal(0, 0.3, y.shape), 0, 1)
    said = (chances > 0.5).astype(int)
    values = scored(chances, y, OF_LABELS, None, groups)
    for name, function in OF_LABELS.items():
        yield compared(
            "scikit-learn",
            f"{name}, several labels",
            values[name],
            lambda rows, f=function: f(y[rows], said[rows]),
            groups,
        )


def of_numbers(rng, groups):
    y = rng.normal(size=ROWS).round(1)
    said = y + rng.normal(size=ROWS).round(1)
    wanted = (*OF_NUMBERS, "pearson", "spearman")
    values = scored(said[:, None], y, wanted, None, groups)
    for name, function in OF_NUMBERS.items():
        yield compared(
            "scikit-learn",
            name,
            values[name],
            lambda rows, f=function: f(y[rows], said[rows]),
            groups,
        )
    for name, function in (
        ("pearson", stats.pearsonr),
        ("spearman", stats.spearmanr),
    ):
        yield compared(
            "scipy",
            name,
            values[name],
            lambda rows, f=function: f(y[rows], said[rows]).statistic,
            groups,
        )


def of_answers(rng, groups):
    words = "the cat and 3 dogs sat on a mat .".split()
    texts = np.array(
        [" ".join(rng.choice(words, 8)) for _ in range(2 * ROWS)], object
    )
    references, answers = texts[:ROWS], texts[ROWS:]
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    fmeasures = np.array(
        [
            scorer.score(one, other)["rougeL"].fmeasure
            for one, other in zip(references, answers, strict=True)
        ]
    )
    data = MetricData("generation", references, answers)
    for package, name, reference in (
        ("rouge-score", "rouge_l", lambda rows: fmeasures[rows].mean()),
        (
            "sacrebleu",
            "bleu",
            lambda rows: (
                sacrebleu.corpus_bleu(
                    answers[rows].tolist(), [references[rows].tolist()]
                ).score
            ),
        ),
    ):
        metric = kd.metrics.get(name)
        masks = [np.ones(ROWS, bool), *(groups == group for group in GROUPS)]
        pairs = [(metric.value(data.take(m)), reference(m)) for m in masks]
        yield package, name, *pairs[0], max(abs(a - b) for a, b in pairs)


def main():
    rng = np.random.default_rng(0)
    groups = rng.choice(GROUPS, ROWS)
    lines = [
        line
        for part in (of_classes, of_labels, of_numbers, of_answers)
        for line in part(rng, groups)
    ]
    print("| package | metric | ours | theirs | largest difference |")
    print("| --- | --- | --- | --- | --- |")
    for package, name, ours, theirs, difference in lines:
        print(
            f"| {package} | {name} | {ours:.6f} | {theirs:.6f} | "
            f"{difference:.1e} |"
        )
    worst = max(difference for *_, difference in lines)
    print(f"\n{len(lines)} lines, largest difference {worst:.1e}.")
    return int(worst > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
