"""Features against numbers: rank correlations."""

import numpy as np
from scipy import sparse
from scipy import stats

from keras_debias.auditing.association import false_discovery_adjusted
from keras_debias.auditing.extraction import extract
from keras_debias.auditing.fields import fields_of
from keras_debias.auditing.group_features import GroupFeatures
from keras_debias.auditing.target_finding import TargetFinding
from keras_debias.auditing.target_report import TargetReport
from keras_debias.data.arguments import check_floats


def audit_target(
    split, target, predictions, fields, min_count, min_difference, level
) -> TargetReport:
    """`audit` of checked arguments, for a split whose labels are numbers."""
    y = split.y.reshape(-1).astype("float64")
    values = y
    if target == "errors":
        said = check_floats("predictions", predictions).reshape(-1)
        if said.shape != y.shape or not np.isfinite(said).all():
            raise ValueError(
                "Expected one finite number a row as `predictions`. Received: "
                f"shape {np.shape(predictions)} for {len(y)} rows"
            )
        values = np.abs(y - said)
    elif predictions is not None:
        raise ValueError(
            "Expected no `predictions`: whether a model follows a feature is "
            "tested for classes only. Received: predictions and numbers as "
            'labels. Use `target="errors"`, which finds where the model is '
            "wrong."
        )
    if np.ptp(values) == 0:
        raise ValueError(
            f"Expected {target} that differ. Received: {len(values)} equal ones"
        )
    extraction = extract(split, fields_of(split, fields), min_count)
    groups = GroupFeatures(split, min_count)
    findings = _findings(extraction, values, min_difference, level)
    return TargetReport(
        name=split.name,
        n=len(split),
        target=target,
        mean=float(values.mean()),
        std=float(values.std()),
        findings=findings,
        group_findings=_findings(groups, values, min_difference, level),
        tests=len(extraction.features),
        min_count=min_count,
        min_difference=min_difference,
        false_discovery_rate=level,
    )


def _findings(extraction, values, min_difference, level) -> tuple:
    features, n = extraction.features, len(values)
    if not features:
        return ()
    ranks = stats.rankdata(values)
    ranks = (ranks - ranks.mean()) / ranks.std()
    columns = np.stack([np.ones(n), values, ranks], axis=1)
    counts = extraction.count(sparse.csr_matrix(columns))
    rows, sums, of_ranks = counts.T
    share = rows / n
    # The ranks are standardized, so the covariance is the correlation.
    spread = np.sqrt(share * (1 - share))
    correlation = np.divide(
        of_ranks / n, spread, out=np.zeros(len(rows)), where=spread > 0
    )
    # Of permutations, the correlation has the variance 1 / (n - 1).
    z = correlation * np.sqrt(n - 1)
    p_value = 2 * stats.norm.sf(np.abs(z))
    adjusted = false_discovery_adjusted(p_value)
    reported = (adjusted <= level) & (np.abs(correlation) >= min_difference)
    order = sorted(np.flatnonzero(reported), key=lambda i: -abs(correlation[i]))
    return tuple(
        TargetFinding(
            feature=features[i],
            n=int(rows[i]),
            mean_with=float(sums[i] / rows[i]),
            mean_without=float((values.sum() - sums[i]) / (n - rows[i])),
            correlation=float(np.clip(correlation[i], -1, 1)),
            z=float(z[i]),
            p_value=float(p_value[i]),
            adjusted_p_value=float(adjusted[i]),
        )
        for i in order
    )
