"""Cues that tell the label beyond what frozen features tell of it."""

import dataclasses

import numpy as np
from scipy import stats
from sklearn import metrics

from keras_debias.auditing.excess_errors import class_confusions
from keras_debias.auditing.excess_errors import harms
from keras_debias.auditing.finding import Finding
from keras_debias.auditing.harm import Harm
from keras_debias.recipes import cross_fitting
from keras_debias.recipes.distinct_findings import distinct_findings
from keras_debias.recipes.shallow_model import class_names

LEVEL = 0.01
# Rows with the cue and another label: fewer cannot be balanced.
MIN_ROWS = 25
# Nats for each row with the cue: less is not worth acting on.
LEAST_GAIN = 0.02
# Tested at most, the strongest first.
MOST_CUES = 8
# Of a regression on a few columns: nearly no penalty.
C = 1e4
_LEAST = 1e-6  # probability


@dataclasses.dataclass(frozen=True)
class AnnotationArtifact:
    """A cue that frozen features do not show, and where it misleads.

    Attributes:
        finding: `Finding`. Its `harm` is that of a probe which knows the cue.
        gain: float, what the cue adds to the log likelihood of the labels,
            divided by the number of rows with the cue.
    """

    finding: Finding
    gain: float


def annotation_artifacts(
    train, findings, tests, probabilities
) -> list[AnnotationArtifact]:
    """The audit's cues that say more of the label than the features do.

    What a pretrained encoder knows of a text is what it means. A cue that
    still tells the label is not part of that: it comes from the way in which
    the rows were made. A network that is fine-tuned learns it. The test is
    the likelihood ratio of two logistic regressions, on the probe's log
    probabilities with and without the cue, at the 1 % level divided by the
    number of tests of the audit, which chose the cues. A gain below 0.02 for
    each row with the cue is left alone: words of a review, such as a
    negation, add that much.

    Args:
        train: `kd.data.Split` with one class a row.
        findings: sequence of `Finding`, the audit's, the strongest first.
        tests: int, the number of pairs of feature and label that the audit
            tested.
        probabilities: float array of shape `(n, classes)`, held-out
            predictions of a probe on frozen features.

    Returns:
        The artifacts, the one with the largest gain first.

    Reference:
        Known artifacts of SNLI and MultiNLI, such as negation, length and
        purpose clauses:
        [Gururangan et al., 2018](https://arxiv.org/abs/1803.02324). Here they
        are what the features do not show.
    """
    cues = distinct_findings(findings, train, MOST_CUES)
    known = np.log(np.clip(probabilities, _LEAST, None))
    before, _ = _fitted(known, train.y)
    others = len(np.unique(train.y)) - 1
    found = []
    for finding, present in cues:
        label = class_names(train).index(finding.label)
        against = present & (train.y != label)
        if against.sum() < MIN_ROWS:
            continue
        after, guess = _fitted(np.column_stack([known, present]), train.y)
        p_value = stats.chi2.sf(2 * (after - before), others)
        gain = (after - before) / int(present.sum())
        if p_value < LEVEL / tests and gain >= LEAST_GAIN:
            harm = _harm(train.y, guess, probabilities.shape[1], present, label)
            finding = dataclasses.replace(finding, harm=harm)
            found.append(AnnotationArtifact(finding, gain))
    return sorted(found, key=lambda artifact: -artifact.gain)


def _harm(y, guess, classes, present, label) -> Harm:
    confused = class_confusions(y, guess, classes)
    rows = np.asarray(confused.indicators[present].sum(axis=0), "int64")
    return harms(rows, [label], confused, LEVEL)[0]


def _fitted(matrix, y) -> tuple[float, np.ndarray]:
    """The log likelihood of the labels, and the predicted classes `(n,)`."""
    model = cross_fitting.fitted(matrix, y, C)
    loss = metrics.log_loss(y, model.predict_proba(matrix), normalize=False)
    return -float(loss), model.predict(matrix)
