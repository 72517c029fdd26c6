"""Exact tests of many small contingency tables."""

from collections.abc import Sequence

import numpy as np
from scipy import special
from scipy import stats


def associations(
    both: np.ndarray, with_feature: np.ndarray, with_label: np.ndarray, n
) -> dict[str, np.ndarray]:
    """Tests whether features go with labels more often than by chance.

    If a feature and a label are independent, the number of rows with both is
    hypergeometric. Its upper tail is Fisher's exact test, which is valid for
    any number of rows.

    Args:
        both: array of shape `(features, labels)`, the number of rows with
            both.
        with_feature: array of shape `(features, 1)` or `(features, labels)`.
        with_label: array of shape `(1, labels)`.
        n: int or array of shape `(1, labels)`, the number of all rows.

    Returns:
        Dict of arrays of shape `(features, labels)`: `n`, `share`, `prior`,
        `z`, `p_value`, `odds_ratio`, `phi`.
    """
    p_value = stats.hypergeom.sf(both - 1, n, with_label, with_feature)
    expected = with_feature * with_label / n
    variance = (
        expected
        * (1 - with_feature / n)
        * (1 - with_label / n)
        * n
        / np.maximum(n - 1, 1)
    )
    # A feature or a label of all rows, or of none, predicts nothing.
    z = np.divide(
        both - expected,
        np.sqrt(variance),
        out=np.zeros_like(expected),
        where=variance > 0,
    )
    feature_only = with_feature - both
    label_only = with_label - both
    neither = n - both - feature_only - label_only
    return {
        "n": np.broadcast_to(with_feature, both.shape),
        "share": both / np.maximum(with_feature, 1),
        "prior": np.broadcast_to(with_label / n, both.shape),
        "z": z,
        "p_value": np.clip(p_value, 0.0, 1.0),
        "odds_ratio": (both + 0.5)
        * (neither + 0.5)
        / ((feature_only + 0.5) * (label_only + 0.5)),
        "phi": z / np.sqrt(np.maximum(n - 1, 1)),
    }


def false_discovery_adjusted(p_values: np.ndarray) -> np.ndarray:
    """P-values after Benjamini and Hochberg, over all elements."""
    p_values = np.asarray(p_values, dtype="float64")
    if not p_values.size:
        return p_values
    adjusted = stats.false_discovery_control(p_values.ravel(), method="bh")
    return adjusted.reshape(p_values.shape)


def stratified_p_value(
    with_both: Sequence[int],
    with_feature: Sequence[int],
    with_outcome: Sequence[int],
    n: Sequence[int],
) -> float:
    """Exact one-sided test of a feature and an outcome within strata.

    Given its margins, the number of rows with both is hypergeometric in each
    stratum if the two are independent there. The statistic is the sum over
    the strata; its distribution is the convolution of theirs.

    Args:
        with_both: ints, one for each stratum.
        with_feature: ints, one for each stratum.
        with_outcome: ints, one for each stratum.
        n: ints, the number of rows of each stratum.

    Returns:
        A float, the probability of a sum of `with_both` or more.

    Reference:

    - [Agresti, 1992](https://doi.org/10.1214/ss/1177011454), section 3: exact
      conditional tests of several tables of two by two.
    """
    observed, distribution = 0, None
    for both, feature, outcome, rows in zip(
        with_both, with_feature, with_outcome, n, strict=True
    ):
        low, high = max(0, feature + outcome - rows), min(feature, outcome)
        if low == high:
            continue  # Only one table has these margins.
        low, high = _likely(low, high, feature, outcome, rows)
        part = _hypergeometric(low, high, feature, outcome, rows)
        observed += both - low
        if distribution is None:
            distribution = part
        else:
            distribution = np.convolve(distribution, part)
    if distribution is None:
        return 1.0
    return float(min(1.0, distribution[max(observed, 0) :].sum()))


def _likely(low, high, feature, outcome, rows):
    """Narrows a range to all but 1e-100 of the mass (Bernstein's bound)."""
    mean = feature * outcome / rows
    deviation = np.sqrt(mean * (1 - outcome / rows))
    reach = 40 * deviation + 400
    return max(low, int(mean - reach)), min(high, int(mean + reach) + 1)


def _hypergeometric(low, high, feature, outcome, rows):
    """Probabilities of `low` to `high` rows with both."""
    both = np.arange(low, high + 1)

    def log_binomial(total, chosen):
        return -np.log1p(total) - special.betaln(total - chosen + 1, chosen + 1)

    return np.exp(
        log_binomial(outcome, both)
        + log_binomial(rows - outcome, feature - both)
        - log_binomial(rows, feature)
    )
