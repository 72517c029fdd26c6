"""ROUGE-L and BLEU of generated answers, by the packages that define them.

Rows are scored one at a time and kept: every group and resample asks again.
"""

import functools

import numpy as np

from keras_debias.metrics.metric_data import MetricData

KEPT = 2**17
ORDERS = 4  # of BLEU's n-grams


def _missing(package: str) -> ImportError:
    return ImportError(
        f"Expected the package `{package}` to be installed. Received: no such "
        'package. Install it with `pip install "keras-debias[text]"`.'
    )


@functools.cache
def rouge_scorer():
    """The scorer of `rouge-score`, or raises."""
    try:
        from rouge_score import rouge_scorer
    except ImportError as error:
        raise _missing("rouge-score") from error
    return rouge_scorer.RougeScorer(["rougeL"])


@functools.cache
def sacrebleu_metrics():
    """The metrics of `sacrebleu`, or raises."""
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise _missing("sacrebleu") from error
    return metrics


@functools.lru_cache(KEPT)
def _rouge_l(reference: str, answer: str) -> float:
    return float(rouge_scorer().score(reference, answer)["rougeL"].fmeasure)


@functools.lru_cache(KEPT)
def _bleu_counts(reference: str, answer: str) -> tuple:
    """Lengths of answer and reference, n-grams in common, and all."""
    scorer = sacrebleu_metrics().BLEU(effective_order=True)
    score = scorer.sentence_score(answer, [reference])
    return (score.sys_len, score.ref_len, *score.counts, *score.totals)


def rouge_l_columns(data: MetricData) -> np.ndarray:
    """The F-measure of each answer, and ones: `(n, 2)`."""
    found = [
        _rouge_l(one, other)
        for one, other in zip(data.y_true, data.y_pred, strict=True)
    ]
    return np.stack([np.asarray(found, "float64"), np.ones(len(data))], axis=1)


def bleu_columns(data: MetricData) -> np.ndarray:
    """What BLEU adds up over answers: `(n, 2 + 2 * ORDERS)`."""
    found = [
        _bleu_counts(one, other)
        for one, other in zip(data.y_true, data.y_pred, strict=True)
    ]
    return np.asarray(found, "float64").reshape(-1, 2 + 2 * ORDERS)


def bleu(sums, data):
    """The BLEU of all answers together, from 0 to 100."""
    compute = sacrebleu_metrics().BLEU.compute_bleu
    found = np.full(sums.shape[:-1], np.nan)
    for i in np.ndindex(found.shape):
        # Weighted sums; their ratio counts, and `sacrebleu` takes integers.
        answer, reference = np.rint(sums[i][:2] * 10**6).astype(int).tolist()
        if reference > 0:
            common, total = sums[i][2:].reshape(2, ORDERS).tolist()
            score = compute(common, total, answer, reference, "exp")
            found[i] = score.score
    return found
