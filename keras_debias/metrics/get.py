"""Metrics by name, by function or by object."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from keras_debias.metrics import answers
from keras_debias.metrics import classification
from keras_debias.metrics import ranking
from keras_debias.metrics import regression
from keras_debias.metrics import text_overlap
from keras_debias.metrics.built_in_metric import BuiltInMetric
from keras_debias.metrics.keras_metric import KerasMetric
from keras_debias.metrics.keras_metric import is_keras_metric
from keras_debias.metrics.metric import Metric

BOTH = ("class", "multi_label")
# Name -> kinds, whether higher is better, the function of sums.
OF_CLASSES = {
    "accuracy": (BOTH, True, classification.accuracy),
    "balanced_accuracy": (("class",), True, classification.balanced_accuracy),
    "weighted_f1": (BOTH, True, classification.weighted_f1),
    "macro_f1": (BOTH, True, classification.macro_f1),
    "micro_f1": (BOTH, True, classification.micro_f1),
    "matthews": (("class",), True, classification.matthews),
}
# The same of one class against the others.
OF_ONE_CLASS = {
    "f1": (True, classification.f1_of),
    "precision": (True, classification.precision_of),
    "recall": (True, classification.recall_of),
    "false_positive_rate": (False, classification.false_positive_rate_of),
    "false_negative_rate": (False, classification.false_negative_rate_of),
}
OF_RANKS = {
    "auroc": ranking.area_under_roc,
    "auprc": ranking.average_precision,
}
OF_PROBABILITIES = {
    "ece": (
        ("class",),
        classification.calibration_columns,
        classification.expected_calibration_error,
    ),
    "log_loss": (
        BOTH,
        classification.log_loss_columns,
        classification.mean_of_rows,
    ),
}
# Of the class or label with the highest score alone.
OF_HIGHEST = {
    "argmax_weighted_f1": classification.weighted_f1,
    "argmax_accuracy": classification.hit,
}
ARGMAX = tuple(OF_HIGHEST)
OF_NUMBERS = {
    "rmse": (False, regression.root_mean_squared_error),
    "mae": (False, regression.mean_absolute_error),
    "r2": (True, regression.r_squared),
    "pearson": (True, regression.pearson),
}
# Of generated answers: whether higher is better, what, and columns.
OF_ANSWERS = {
    "token_f1": (True, "predictions", answers.f1_columns),
    "reference_nll": (False, "probabilities", answers.likelihood_columns),
}
GENERATION = ("exact_match", *OF_ANSWERS)
# The same by packages of their own: which, columns, the function of sums.
OF_TEXTS = {
    "rouge_l": (
        text_overlap.rouge_scorer,
        text_overlap.rouge_l_columns,
        classification.mean_of_rows,
    ),
    "bleu": (
        text_overlap.sacrebleu_metrics,
        text_overlap.bleu_columns,
        text_overlap.bleu,
    ),
}
REGRESSION = ("rmse", "mae", "r2", "pearson", "spearman")
NAMES = (
    *OF_CLASSES,
    *OF_ONE_CLASS,
    *OF_RANKS,
    *OF_PROBABILITIES,
    *OF_HIGHEST,
    *GENERATION,
    *OF_TEXTS,
    *REGRESSION,
)
WITH_POSITIVE = (*OF_ONE_CLASS, *OF_RANKS)


def get(
    metric: str | Callable | Metric,
    *,
    positive: str | None = None,
    higher_is_better: bool | None = None,
) -> Metric:
    """Returns a metric by its name, or makes one of a function.

    - Of classes and of several labels: `accuracy`, `weighted_f1`, `macro_f1`,
      `micro_f1`, `exact_match`.
    - Of classes: `balanced_accuracy`, `matthews`.
    - Of one class: `f1`, `precision`, `recall`, `false_positive_rate`,
      `false_negative_rate`.
    - Of probabilities: `auroc`, `auprc`, `log_loss`; of classes alone `ece`
      (15 bins of equal width).
    - Of the label with the highest score, where there are several:
      `argmax_weighted_f1`, `argmax_accuracy`.
    - Of generated answers: `exact_match` and `token_f1`, both without case,
      punctuation and articles, as of SQuAD, and `reference_nll`, the mean
      negative log-likelihood of a token of the references. `rouge_l`, the
      mean F-measure of the package `rouge-score`, from 0 to 1, which knows
      Latin letters and digits only; `bleu`, that of `sacrebleu`, of all
      answers of a group together, from 0 to 100. Both need
      `pip install "keras-debias[text]"`.
    - Of numbers: `rmse`, `mae`, `r2`, `pearson`, `spearman`.

    Where there is nothing to be measured, such as a recall without a row of
    the class, the value is undefined and not 0. Over more than two classes,
    `auroc` and `auprc` are means over each class against the others.

    Args:
        metric: a name, a `keras.metrics.Metric`, a function of `(y_true,
            y_pred)` such as scikit-learn's, or a `Metric`.
        positive: string, for metrics of one class: its name. Defaults to
            `None`: the second of two classes.
        higher_is_better: bool, for functions and metrics of one's own.
            Defaults to `None`: as is known, or as the name says.

    Returns:
        A `Metric`.

    Raises:
        ValueError: If the name is unknown, or the direction of a function.
        TypeError: If `metric` is something else.
        ImportError: If the package of the metric is not installed.

    Example:

    >>> get("false_positive_rate").higher_is_better
    False
    """
    if positive is not None and not isinstance(positive, str):
        raise TypeError(
            "Expected `positive` to be the name of a class. Received: "
            f"positive={positive!r}"
        )
    if positive is not None and not (
        isinstance(metric, str) and metric in WITH_POSITIVE
    ):
        raise ValueError(
            f"Expected `positive` with one of {WITH_POSITIVE}. Received: "
            f"{metric!r}"
        )
    if isinstance(metric, (str, Metric)) and higher_is_better is not None:
        raise ValueError(
            "Expected `higher_is_better` with functions only. Received: "
            f"{metric!r}, of which it is known"
        )
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return _by_name(metric, positive)
    if is_keras_metric(metric):
        return KerasMetric(metric, higher_is_better)
    return Metric(metric, higher_is_better)


def _by_name(name: str, positive) -> Metric:
    counts = classification.class_counts
    if name in OF_CLASSES:
        kinds, rises, compute = OF_CLASSES[name]
        return BuiltInMetric(name, kinds, rises, counts, compute)
    if name in OF_ONE_CLASS:
        rises, function = OF_ONE_CLASS[name]
        compute = classification.binary(function, positive)
        kinds = ("class",) if positive is None else BOTH
        return BuiltInMetric(name, kinds, rises, counts, compute)
    if name in OF_RANKS:
        return BuiltInMetric(
            name,
            BOTH,
            True,
            ranking.ordered_scores(positive),
            OF_RANKS[name],
            on="probabilities",
            sums=False,
        )
    if name in OF_PROBABILITIES:
        kinds, columns, compute = OF_PROBABILITIES[name]
        return BuiltInMetric(
            name, kinds, False, columns, compute, on="probabilities"
        )
    if name in OF_HIGHEST:
        return BuiltInMetric(
            name,
            ("multi_label",),
            True,
            classification.highest_counts,
            OF_HIGHEST[name],
            on="probabilities",
        )
    if name == "exact_match":
        return BuiltInMetric(
            name,
            (*BOTH, "generation"),
            True,
            _exact_columns,
            classification.accuracy,
        )
    if name in OF_ANSWERS:
        rises, on, columns = OF_ANSWERS[name]
        return BuiltInMetric(
            name,
            ("generation",),
            rises,
            columns,
            classification.mean_of_rows,
            on=on,
        )
    if name in OF_TEXTS:
        package, columns, compute = OF_TEXTS[name]
        package()  # a missing one is told before anything is trained
        return BuiltInMetric(name, ("generation",), True, columns, compute)
    if name in OF_NUMBERS:
        rises, compute = OF_NUMBERS[name]
        return BuiltInMetric(
            name, ("regression",), rises, regression.moments, compute
        )
    if name == "spearman":
        return BuiltInMetric(
            name,
            ("regression",),
            True,
            ranking.both_ranks,
            ranking.spearman,
            sums=False,
        )
    raise ValueError(
        f"Expected the name of a metric: one of {NAMES}. Received: {name!r}"
    )


def _exact_columns(data):
    """Columns of which the last two are exact hits and ones."""
    if data.kind == "generation":
        return answers.exact_columns(data)
    return classification.class_counts(data)


def named_metrics(metrics) -> dict[str, Metric]:
    """Returns what `metrics=` of `kd.evaluate` takes, as a dict, or raises.

    Args:
        metrics: dict from name to anything that `get` takes, a sequence of
            such, or `None`.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        found = {name: get(metric) for name, metric in metrics.items()}
    elif isinstance(metrics, Sequence) and not isinstance(
        metrics, (str, bytes)
    ):
        each = [get(metric) for metric in metrics]
        found = {metric.name: metric for metric in each}
        if len(found) < len(each):
            raise ValueError(
                "Expected metrics of different names. Received: "
                f"{[m.name for m in each]}. Name them with a dict."
            )
    else:
        raise TypeError(
            "Expected `metrics` to be a dict from name to metric, or a "
            f"sequence of metrics. Received: metrics={metrics!r}"
        )
    for name in found:
        if (
            not isinstance(name, str)
            or not name.strip()
            or not name.isprintable()
        ):
            raise ValueError(
                "Expected non-empty strings as names of metrics. Received: "
                f"{name!r}"
            )
    return found
