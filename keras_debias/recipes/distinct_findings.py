import numpy as np

from keras_debias.auditing.feature import presence
from keras_debias.auditing.finding import Finding

MAX_PHI = 0.3


def distinct_findings(
    findings, train, most, max_phi=MAX_PHI
) -> list[tuple[Finding, np.ndarray]]:
    """The strongest findings of an audit that are nearly uncorrelated.

    Args:
        findings: sequence of `Finding`, the strongest first.
        train: `kd.data.Split` that was audited.
        most: int, the largest number of findings.
        max_phi: float, the largest absolute correlation (phi) of two of them.
            Defaults to `0.3`.

    Returns:
        List of pairs: a finding, and a bool array of shape `(n,)`, the rows
        that have its feature.
    """
    found: list[tuple[Finding, np.ndarray]] = []
    # The texts are read once for each part of the findings.
    for start in range(0, len(findings), most):
        part = findings[start : start + most]
        present = presence([finding.feature for finding in part], train)
        for finding, column in zip(part, present.T, strict=True):
            if all(abs(_phi(column, other)) <= max_phi for _, other in found):
                found.append((finding, column))
            if len(found) == most:
                return found
    return found


def _phi(first, second) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
