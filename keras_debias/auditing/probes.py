"""Partial-input probes of an extraction."""

import numpy as np

from keras_debias.auditing.partial_input_probe import run_probe
from keras_debias.utils.progress import Progress

# A probe learns little from more rows, and takes much longer.
PROBE_ROWS = 50_000


def run_probes(
    labels, extraction, folds: int, level: float, seed: int
) -> tuple:
    """Probes each part of the input, on at most `PROBE_ROWS` rows.

    Args:
        labels: int array of shape `(n,)`.
        extraction: `Extraction`.
        folds: int.
        level: float, the level of significance.
        seed: int, of the folds and of the draw of rows.

    Returns:
        Tuple of `PartialInputProbe`.
    """
    _, codes, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    if counts.min() < folds:
        raise ValueError(
            f"Expected at least {folds} rows of each class for `folds="
            f"{folds}`. Received: a class with {counts.min()}. Lower `folds`, "
            "or use `folds=0` for no probes."
        )
    rows = np.arange(len(codes))
    if len(codes) > PROBE_ROWS:
        rows = _drawn(codes, folds, np.random.default_rng(seed))
    partial = extraction.partial_inputs(rows)
    progress = Progress("Probing parts of the input", len(partial), "probe")
    probes = []
    for name, features in partial.items():
        probes.append(
            run_probe(
                name,
                features,
                codes[rows],
                folds=folds,
                level=level,
                probes=len(partial),
                seed=seed,
            )
        )
        progress.add(1)
    return tuple(probes)


def _drawn(codes, folds, rng):
    """About `PROBE_ROWS` rows, stratified, at least `folds` of each class."""
    drawn = []
    for label in range(codes.max() + 1):
        rows = rng.permutation(np.flatnonzero(codes == label))
        share = round(PROBE_ROWS * len(rows) / len(codes))
        drawn.append(rows[: max(share, folds)])
    return np.sort(np.concatenate(drawn))
