"""Whether a model follows a finding where it misleads."""

import dataclasses

import numpy as np
from scipy import sparse
from scipy import stats

from keras_debias.auditing.association import false_discovery_adjusted
from keras_debias.auditing.association import stratified_p_value
from keras_debias.auditing.harm import Harm


@dataclasses.dataclass
class Confusions:
    """The rows of each pair of class and predicted label.

    Attributes:
        indicators: sparse matrix of shape `(n, pairs)` of zeros and ones.
        strata: dict from the index of a label to the strata of its errors:
            pairs of the columns of `indicators` that make up all rows of a
            class, and the column of its rows that are predicted as the
            label.
    """

    indicators: sparse.csr_matrix
    strata: dict[int, list[tuple[list[int], int | None]]]


def class_confusions(true: np.ndarray, guess: np.ndarray, size: int):
    """`Confusions` of rows with one class each; a stratum is a class.

    Args:
        true: int array of shape `(n,)`, from 0 to `size - 1`.
        guess: int array of shape `(n,)`, from 0 to `size`, where `size` is a
            class that no row has.
        size: int, the number of classes.
    """
    pairs, codes = np.unique(true * (size + 1) + guess, return_inverse=True)
    column = {int(pair): position for position, pair in enumerate(pairs)}
    classes = [
        [column[pair] for pair in column if pair // (size + 1) == label]
        for label in range(size)
    ]
    strata = {
        label: [
            (classes[other], column.get(other * (size + 1) + label))
            for other in range(size)
            if other != label
        ]
        for label in range(size)
    }
    return Confusions(one_hot(codes, len(pairs)), strata)


def label_confusions(labels: np.ndarray, guess: np.ndarray):
    """`Confusions` of multi-hot labels; one stratum: rows without the label.

    Args:
        labels: array of shape `(n, labels)` of zeros and ones.
        guess: array of the same shape.
    """
    lacking = 1.0 - labels
    size = labels.shape[1]
    return Confusions(
        sparse.csr_matrix(np.concatenate([lacking, lacking * guess], axis=1)),
        {label: [([label], size + label)] for label in range(size)},
    )


def one_hot(codes: np.ndarray, size: int) -> sparse.csr_matrix:
    """Sparse zeros and ones of shape `(n, size)`, one in each row."""
    n = len(codes)
    return sparse.csr_matrix(
        (np.ones(n), codes, np.arange(n + 1)), shape=(n, size)
    )


def harms(
    found: np.ndarray, labels: list[int], confused: Confusions, level: float
) -> list[Harm]:
    """Tests for each finding whether the model follows it.

    Args:
        found: array of shape `(findings, pairs)`, how many rows with the
            finding's feature are in each column of `confused.indicators`.
        labels: list of ints, the index of each finding's label.
        confused: `Confusions`.
        level: float, the false discovery rate.

    Returns:
        List of `Harm`, one for each finding.
    """
    totals = np.asarray(confused.indicators.sum(axis=0)).ravel()
    made = []
    for counts, label in zip(found, labels, strict=True):
        strata = np.array(
            [
                (
                    0 if hit is None else counts[hit],
                    counts[columns].sum(),
                    0 if hit is None else totals[hit],
                    totals[columns].sum(),
                )
                for columns, hit in confused.strata[label]
            ],
            dtype="int64",
        )
        made.append(_harm(*strata.T))
    adjusted = false_discovery_adjusted([harm.p_value for harm in made])
    return [
        dataclasses.replace(
            harm, adjusted_p_value=float(p), significant=bool(p <= level)
        )
        for harm, p in zip(made, adjusted, strict=True)
    ]


def _harm(hits, rows, all_hits, all_rows):
    """`Harm` of the counts of each stratum, not yet adjusted."""
    if len(hits) == 1:
        # The same test, without the rounding of a convolution.
        p_value = float(
            stats.hypergeom.sf(hits[0] - 1, all_rows[0], all_hits[0], rows[0])
        )
    else:
        p_value = stratified_p_value(hits, rows, all_hits, all_rows)
    n, without = rows.sum(), all_rows - rows
    # Classes whose rows all have the feature have nothing to compare with.
    compared = without > 0
    rates = (all_hits - hits)[compared] / without[compared]
    weights = rows[compared]
    expected = float(rates @ weights)
    return Harm(
        n=int(n),
        errors=int(hits.sum()),
        excess_errors=float(hits[compared].sum()) - expected,
        error_rate_with=float(hits.sum() / n) if n else None,
        error_rate_without=(
            expected / float(weights.sum()) if weights.sum() else None
        ),
        p_value=min(1.0, p_value),
        adjusted_p_value=1.0,
        significant=False,
    )
