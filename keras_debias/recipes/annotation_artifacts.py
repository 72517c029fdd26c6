"""Cues that tell the label beyond what frozen features tell of it."""

import dataclasses

import numpy as np
from scipy import stats

from keras_debias.auditing.finding import Finding
from keras_debias.recipes import cross_fitting
from keras_debias.recipes.distinct_findings import distinct_findings
from keras_debias.recipes.shallow_model import class_names

LEVEL = 0.01
# Rows with the cue and another label: fewer cannot be balanced.
MIN_ROWS = 25
# Tested at most, the strongest first.
MOST_CUES = 8
# Of a regression on a few columns: nearly no penalty.
C = 1.0
_LEAST = 1e-6  # probability


@dataclasses.dataclass(frozen=True)
class AnnotationArtifact:
    """A cue that frozen features do not show, and where it misleads.

    Attributes:
        finding: `Finding`.
        gain: float, what the cue adds to the log likelihood of the label of
            a held-out row.
        against: int, the number of rows with the cue and another label.
        misled: float, the share of them that a probe which knows the cue
            takes for the cue's label.
        elsewhere: float, the same share among rows of the same labels
            without the cue.
    """

    finding: Finding
    gain: float
    against: int
    misled: float
    elsewhere: float


def annotation_artifacts(
    train, findings, probabilities, folds
) -> list[AnnotationArtifact]:
    """The audit's cues that say more of the label than the features do.

    What a pretrained encoder knows of a text is what it means. A cue that
    still tells the label is not part of that: it comes from the way in which
    the rows were made. A network that is fine-tuned learns it.

    Args:
        train: `kd.data.Split` with one class a row.
        findings: sequence of `Finding`, the audit's, the strongest first.
        probabilities: float array of shape `(n, classes)`, held-out
            predictions of a probe on frozen features.
        folds: list of pairs of indices, to fit on and held out.

    Returns:
        The artifacts, the one with the largest gain first.

    Reference:
        Known artifacts of SNLI and MultiNLI, such as negation, length and
        purpose clauses:
        [Gururangan et al., 2018](https://arxiv.org/abs/1803.02324). Here they
        are what the features do not show.
    """
    cues = distinct_findings(findings, train, MOST_CUES)
    classes = probabilities.shape[1]
    known = np.log(np.clip(probabilities, _LEAST, None))
    before, _ = _held_out(known, train.y, classes, folds)
    found = []
    for finding, present in cues:
        label = class_names(train).index(finding.label)
        against = present & (train.y != label)
        if against.sum() < MIN_ROWS:
            continue
        after, guess = _held_out(
            np.column_stack([known, present]), train.y, classes, folds
        )
        gains = after - before
        z = gains.mean() / max(gains.std(), _LEAST) * len(gains) ** 0.5
        if stats.norm.sf(z) < LEVEL / len(cues):
            takes = guess == label
            found.append(
                AnnotationArtifact(
                    finding,
                    float(gains.mean()),
                    int(against.sum()),
                    float(takes[against].mean()),
                    _elsewhere(takes, train.y, present, against),
                )
            )
    return sorted(found, key=lambda artifact: -artifact.gain)


def _elsewhere(takes, y, present, against) -> float:
    """The mean of `takes` without the cue, by the classes of `against`."""
    rates = [
        (against & (y == other)).sum() * takes[(y == other) & ~present].mean()
        for other in np.unique(y[against])
        if (~present & (y == other)).any()
    ]
    return float(np.sum(rates) / against.sum())


def _held_out(matrix, y, classes, folds) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihoods of the labels, and predicted classes, `(n,)` each."""
    found = cross_fitting.out_of_fold(matrix, y, classes, C, folds)
    likelihoods = np.clip(found[np.arange(len(y)), y], _LEAST, None)
    return np.log(likelihoods), found.argmax(axis=1)
