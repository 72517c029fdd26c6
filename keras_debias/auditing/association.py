"""Which features go with which labels: exact tests of many small tables."""

import numpy as np
from scipy import stats


def associations(presence, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Tests every feature against every label.

    Of the rows with a feature, the number with a label is hypergeometric if
    the two are independent; the upper tail is Fisher's exact test, which
    holds for any count.

    Args:
        presence: sparse matrix of shape `(n, features)` of zeros and ones.
        labels: array of shape `(n, labels)` of zeros and ones.

    Returns:
        Dict of arrays of shape `(features, labels)`: `n`, `share`, `prior`,
        `z`, `p_value`, `adjusted_p_value`, `odds_ratio`, `phi`.
    """
    labels = np.asarray(labels, dtype="float64")
    rows = labels.shape[0]
    both = np.asarray(presence.T @ labels)
    with_feature = np.asarray(presence.sum(axis=0), "float64").reshape(-1, 1)
    with_label = labels.sum(axis=0).reshape(1, -1)
    p_value = stats.hypergeom.sf(both - 1, rows, with_label, with_feature)
    p_value = np.clip(p_value, 0.0, 1.0)
    expected = with_feature * with_label / rows
    variance = (
        expected
        * (1 - with_feature / rows)
        * (1 - with_label / rows)
        * rows
        / (rows - 1)
    )
    # A feature or a label of all rows, or of none, tells nothing.
    z = np.divide(
        both - expected,
        np.sqrt(variance),
        out=np.zeros_like(expected),
        where=variance > 0,
    )
    feature_only = with_feature - both
    label_only = with_label - both
    neither = rows - both - feature_only - label_only
    return {
        "n": np.broadcast_to(with_feature, both.shape),
        "share": both / with_feature,
        "prior": np.broadcast_to(with_label / rows, both.shape),
        "z": z,
        "p_value": p_value,
        "adjusted_p_value": stats.false_discovery_control(
            p_value.ravel(), method="bh"
        ).reshape(p_value.shape),
        "odds_ratio": (both + 0.5)
        * (neither + 0.5)
        / ((feature_only + 0.5) * (label_only + 0.5)),
        "phi": z / np.sqrt(rows - 1),
    }
