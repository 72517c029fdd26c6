import numpy as np

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
    for finding in findings:
        if len(found) == most:
            break
        present = finding.feature.present(train)
        if all(abs(_phi(present, other)) <= max_phi for _, other in found):
            found.append((finding, present))
    return found


def _phi(first, second) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
