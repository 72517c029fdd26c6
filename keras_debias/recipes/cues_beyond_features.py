"""Cues that tell the label beyond what frozen features tell of it."""

import dataclasses

import numpy as np
from scipy import stats

from keras_debias.auditing import audit
from keras_debias.auditing.finding import Finding
from keras_debias.recipes import cross_fitting
from keras_debias.recipes.shallow_model import class_names

LEVEL = 0.01
# Rows with the cue and another label: fewer cannot be balanced.
MIN_ROWS = 25
# Tested at most, the strongest first.
MOST_CUES = 8
# Correlation (phi) from which on two findings are one cue.
MAX_PHI = 0.3
# Of a regression on a few columns: nearly no penalty.
C = 1.0
_LEAST = 1e-6  # probability


@dataclasses.dataclass(frozen=True)
class CueBeyondFeatures:
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


def cues_beyond_features(
    train, probabilities, folds
) -> list[CueBeyondFeatures]:
    """The audit's cues that say more of the label than the features do.

    What a pretrained encoder knows of a text is what it means. A cue that
    still tells the label is not part of that: it comes from the way in which
    the rows were made. A network that is fine-tuned learns it.

    Args:
        train: `kd.data.Split` with one class a row.
        probabilities: float array of shape `(n, classes)`, held-out
            predictions of a probe on frozen features.
        folds: list of pairs of indices, to fit on and held out.

    Returns:
        The cues, the one with the largest gain first.
    """
    try:
        findings = audit(train, folds=0).findings
    except (TypeError, ValueError):
        # Not texts or images, or no feature is frequent enough.
        return []
    cues = _distinct(findings, train)
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
        z = gains.mean() / max(gains.std(), 1e-12) * len(gains) ** 0.5
        if stats.norm.sf(z) >= LEVEL / len(cues):
            continue
        takes = guess == label
        others = [
            takes[(train.y == other) & ~present].mean()
            for other in train.y[against]
            if (~present[train.y == other]).any()
        ]
        found.append(
            CueBeyondFeatures(
                finding,
                float(gains.mean()),
                int(against.sum()),
                float(takes[against].mean()),
                float(np.mean(others)) if others else 0.0,
            )
        )
    return sorted(found, key=lambda cue: -cue.gain)


def _distinct(findings, train) -> list[tuple[Finding, np.ndarray]]:
    """The strongest nearly uncorrelated findings, and the rows with them."""
    cues: list[tuple[Finding, np.ndarray]] = []
    for finding in findings:
        present = finding.feature.present(train)
        if present.all() or not present.any():
            continue
        if all(
            abs(np.corrcoef(present, other)[0, 1]) <= MAX_PHI
            for _, other in cues
        ):
            cues.append((finding, present))
        if len(cues) == MOST_CUES:
            break
    return cues


def _held_out(matrix, y, classes, folds) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihoods of the labels, and predicted classes, `(n,)` each."""
    found = cross_fitting.out_of_fold(matrix, y, classes, C, folds)
    likelihoods = np.clip(found[np.arange(len(y)), y], _LEAST, None)
    return np.log(likelihoods), found.argmax(axis=1)
