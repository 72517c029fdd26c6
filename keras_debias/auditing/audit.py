"""`audit`: what predicts the label, before anything is trained."""

import numpy as np

from keras_debias.auditing.advice import advise
from keras_debias.auditing.association import associations
from keras_debias.auditing.audit_report import AuditReport
from keras_debias.auditing.extraction import extract
from keras_debias.auditing.fields import fields_of
from keras_debias.auditing.finding import Finding
from keras_debias.auditing.partial_input_probe import run_probe
from keras_debias.data.checks import class_labels
from keras_debias.data.split import Split


def audit(
    split: Split,
    *,
    fields=None,
    min_count: int = 20,
    min_difference: float = 0.05,
    false_discovery_rate: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> AuditReport:
    """Looks for what predicts the label and should not, without a model.

    Every token of every text, and simple features (negation, length, word
    overlap, punctuation, numbers; for pictures brightness, contrast,
    saturation and hue, of the whole and of the border), is tested for going
    with a label more often than chance. Linear models on a part of the input
    only, one text of a pair or the simple features, tell how far such cues
    lead together.

    A finding is not proof of a shortcut: "no" may mark a contradiction
    because it denies something. It is what a model can use without reading
    the rest. The tests take rows as independent: where many rows share a
    premise, findings on premises are to be read with care. Sample weights
    are not looked at.

    Args:
        split: `Split` of texts, tuples of texts or pictures, with one class
            a row, or multi-hot labels (then there are no probes).
        fields: sequence of strings, the names of the texts, or `None`: a
            pair is called premise and hypothesis.
        min_count: int. Features of fewer rows are not tested. Defaults to
            `20`.
        min_difference: float. The least `P(label | feature) - P(label)` that
            is reported. Defaults to `0.05`.
        false_discovery_rate: float. The expected share of false findings,
            controlled after Benjamini and Hochberg over all features and
            labels; also the level of the probes. Defaults to `0.01`.
        folds: int. Folds of the cross-validation of the probes; `0` for no
            probes. Defaults to `5`.
        seed: int, of the folds. Defaults to `0`.

    Returns:
        An `AuditReport`; printing it shows tables.

    Raises:
        ValueError: If there are no labels, one class only, too few rows for
            any feature, or an argument is out of range.
        TypeError: If the split holds neither texts nor pictures.

    Example:

    ```python
    report = kd.audit(train)
    print(report)
    train = report.findings[0].with_groups(train)
    ```

    Reference:

    - Statistics of single features: [Gardner et al., 2021](
      https://arxiv.org/abs/2104.08646), who use a normal approximation; the
      test here is exact.
    - Partial-input models: [Gururangan et al., 2018](
      https://arxiv.org/abs/1803.02324); [Poliak et al., 2018](
      https://arxiv.org/abs/1805.01042).
    """
    _check_arguments(
        split, min_count, min_difference, false_discovery_rate, folds
    )
    labels, names = _labels(split)
    fields = fields_of(split, fields)
    extraction = extract(split, fields, min_count)
    findings = _findings(
        extraction, labels, names, min_difference, false_discovery_rate
    )
    probes = ()
    if folds and split.y.ndim == 1:
        probes = _probes(split.y, extraction, folds, false_discovery_rate, seed)
    counts = labels.sum(axis=0).astype(int).tolist()
    groups = {} if split.groups is None else split.groups.counts()
    report = AuditReport(
        name=split.name,
        n=len(split),
        label_counts=dict(zip(names, counts, strict=True)),
        findings=findings,
        probes=probes,
        groups=groups,
        tests=len(extraction.features) * labels.shape[1],
        min_count=min_count,
        min_difference=min_difference,
        false_discovery_rate=false_discovery_rate,
    )
    return report.with_advice(advise(report))


def _check_arguments(split, min_count, min_difference, rate, folds):
    if not isinstance(split, Split):
        raise TypeError(
            f"Expected a `Split`. Received: {type(split).__name__}. Use "
            "`keras_debias.data.Split(x, y)`."
        )
    for name, value in (("min_count", min_count), ("folds", folds)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(
                f"Expected `{name}` to be an integer. Received: "
                f"{name}={value!r}"
            )
    if min_count < 1:
        raise ValueError(
            "Expected `min_count` of at least 1. Received: "
            f"min_count={min_count}"
        )
    if folds < 0 or folds == 1:
        raise ValueError(
            "Expected `folds` of at least 2, or 0 for no probes. Received: "
            f"folds={folds}"
        )
    if not 0 <= min_difference < 1:
        raise ValueError(
            "Expected `min_difference` from 0 to 1. Received: "
            f"min_difference={min_difference}"
        )
    if not 0 < rate < 1:
        raise ValueError(
            "Expected `false_discovery_rate` between 0 and 1. Received: "
            f"false_discovery_rate={rate}"
        )


def _labels(split):
    """Labels as zeros and ones `(n, labels)`, and their names."""
    y = split.y
    multi_hot = y is not None and y.ndim == 2 and np.isin(y, (0, 1)).all()
    if multi_hot:
        names = split.label_names or map(str, range(y.shape[1]))
        labels = y.astype("float64")
    else:
        y = class_labels(split, "`audit`")
        there, codes = np.unique(y, return_inverse=True)
        if len(there) < 2:
            raise ValueError(
                "Expected at least two classes. Received: the only label "
                f"{_name(split, there[0])!r} in all {len(split)} rows."
            )
        names = [_name(split, label) for label in there]
        labels = np.eye(len(there))[codes]
    names = list(names)
    varied = (labels.min(axis=0) == 0) & (labels.max(axis=0) == 1)
    if not varied.any():
        raise ValueError(
            "Expected labels that some rows have and others have not. "
            f"Received: labels {names}, each in all rows or in none."
        )
    return labels[:, varied], [n for n, v in zip(names, varied) if v]


def _name(split, label) -> str:
    names = split.label_names
    return str(label) if names is None else names[label]


def _findings(extraction, labels, names, min_difference, level):
    found = associations(extraction.presence, labels)
    reported = (found["adjusted_p_value"] <= level) & (
        found["share"] - found["prior"] >= min_difference
    )
    # The strongest first: `phi` weighs how telling a feature is against how
    # many rows have it.
    order = sorted(zip(*np.nonzero(reported)), key=lambda at: -found["phi"][at])
    return tuple(
        Finding(
            feature=extraction.features[at[0]],
            label=names[at[1]],
            **{
                key: int(values[at]) if key == "n" else float(values[at])
                for key, values in found.items()
            },
        )
        for at in order
    )


def _probes(labels, extraction, folds, level, seed):
    _, codes, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    if counts.min() < folds:
        raise ValueError(
            f"Expected at least {folds} rows of each class for `folds="
            f"{folds}`. Received: a class with {counts.min()}. Lower `folds`, "
            "or use `folds=0` for no probes."
        )
    return tuple(
        run_probe(
            name,
            features,
            codes,
            folds=folds,
            level=level,
            probes=len(extraction.partial),
            seed=seed,
        )
        for name, features in extraction.partial.items()
    )
