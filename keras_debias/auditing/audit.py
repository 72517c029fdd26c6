"""`audit`: which features predict the label, before any training."""

import typing

import numpy as np
from scipy import sparse

from keras_debias.auditing.advice import advise
from keras_debias.auditing.audit_report import AuditReport
from keras_debias.auditing.excess_errors import class_confusions
from keras_debias.auditing.excess_errors import label_confusions
from keras_debias.auditing.excess_errors import one_hot
from keras_debias.auditing.extraction import extract
from keras_debias.auditing.feature_tests import error_slices
from keras_debias.auditing.feature_tests import label_findings
from keras_debias.auditing.fields import fields_of
from keras_debias.auditing.group_features import GroupFeatures
from keras_debias.auditing.predictions import predicted_labels
from keras_debias.auditing.probes import run_probes
from keras_debias.auditing.target_audit import audit_target
from keras_debias.auditing.target_report import TargetReport
from keras_debias.data.checks import class_labels
from keras_debias.data.split import Split

TARGETS = ("labels", "errors")


def audit(
    split: Split,
    *,
    target: typing.Literal["labels", "errors"] = "labels",
    predictions=None,
    fields=None,
    min_count: int = 20,
    min_difference: float = 0.05,
    false_discovery_rate: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> AuditReport | TargetReport:
    """Tests which simple features predict the label, or a model's errors.

    Features are all tokens of all texts, and simple properties: negation,
    length, word overlap, punctuation and numbers; for images brightness,
    contrast, saturation and hue, of the whole image and of its border. The
    attributes of the split's own groups are tested too, and listed apart
    (`report.group_findings`).

    - `target="labels"`: each feature is tested for going with a label more
      often than by chance. Linear models that see a part of the input only
      (one text of a pair, or the simple features) measure how far such
      features lead together. With `predictions` of a model, each finding
      also says whether the model *follows* it: whether rows with the feature
      and another label are mistaken for the finding's label more often than
      rows of the same class without the feature (`finding.harm`). This tells
      a shortcut from a word that belongs to the task.
    - `target="errors"`: within each class, each feature is tested for going
      with *wrong* predictions. The findings are `ErrorSlice`s: named subsets
      on which the model fails.

    Labels that are floats are the targets of a regression: each feature is
    tested for its rank correlation with them, or with the absolute errors
    for `target="errors"`; there are no probes.

    A finding alone does not prove a shortcut: "no" may mark a contradiction
    because it denies something. The tests take rows as independent. Where
    many rows share a premise, p-values of findings on premises are too
    small. Sample weights are not used.

    Texts are read in chunks, and what was counted goes to a temporary file
    when it is large. A million rows take minutes; a progress bar appears
    after five seconds.

    Args:
        split: `Split` of texts, tuples of texts or images, with one class
            for each row, with multi-hot labels or with numbers (then there
            are no probes).
        target: `"labels"` or `"errors"`. Defaults to `"labels"`.
        predictions: what a model predicts for each row of `split`: class ids
            or label names of shape `(n,)`, or probabilities or logits of
            shape `(n, classes)`; for multi-hot labels zeros and ones of
            shape `(n, labels)`. For rows that the model was trained on use
            out-of-fold predictions: a model that has memorized its training
            rows makes no errors there. Defaults to `None`.
        fields: sequence of strings, the names of the texts. Defaults to
            `None`: a pair is called premise and hypothesis.
        min_count: int. Features of fewer rows are not tested. Defaults to
            `20`.
        min_difference: float. The smallest difference that is reported:
            `P(label | feature) - P(label)`, or between the error rates with
            the feature and of the class; of a regression the smallest
            absolute rank correlation. Defaults to `0.05`.
        false_discovery_rate: float. The expected share of false findings,
            controlled after Benjamini and Hochberg over all features and
            labels; also the level of the probes and of `harm`. Defaults to
            `0.01`.
        folds: int. Folds of the cross-validation of the probes, on at most
            50,000 rows; `0` for no probes. Defaults to `5`.
        seed: int, of the folds. Defaults to `0`.

    Returns:
        An `AuditReport`, of a regression a `TargetReport`; printing it shows
        tables.

    Raises:
        ValueError: If there are no labels, one class only, too few rows for
            any feature, an argument is out of range, `target="errors"` comes
            without predictions or without any error, or the predictions do
            not fit the split.
        TypeError: If the split holds neither texts nor images.

    Example:

    ```python
    report = kd.audit(train)
    print(report)
    train = report.findings[0].with_groups(train)

    # Which findings does a model follow? Where does it fail?
    print(kd.audit(train, predictions=out_of_fold).by_harm())
    print(kd.audit(test, target="errors", predictions=model.predict(test.x)))
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
        split,
        target,
        predictions,
        min_count,
        min_difference,
        false_discovery_rate,
        folds,
    )
    if split.y is not None and split.y.dtype.kind == "f":
        if split.y.ndim == 1 or split.y.shape[1:] == (1,):
            return audit_target(
                split,
                target,
                predictions,
                fields,
                min_count,
                min_difference,
                false_discovery_rate,
            )
    labels, names = _labels(split)
    fields = fields_of(split, fields)
    predicted = None
    if predictions is not None:
        predicted = predicted_labels(split, predictions)
    groups = GroupFeatures(split, min_count)
    level = false_discovery_rate
    if target == "errors":
        classes, wrong, slices = _errors(split, labels, names, predicted)
        extraction = extract(split, fields, min_count)
        arguments = (classes, wrong, slices, min_count, min_difference, level)
        findings, tests = error_slices(extraction, *arguments)
        group_findings, _ = error_slices(groups, *arguments)
    else:
        confused = None
        if predicted is not None:
            confused = _confusions(split, predicted)
        extraction = extract(split, fields, min_count)
        arguments = (labels, names, confused, min_difference, level)
        findings, tests = label_findings(extraction, *arguments)
        group_findings, _ = label_findings(groups, *arguments)
    probes = ()
    if folds and split.y.ndim == 1 and target == "labels":
        probes = run_probes(split.y, extraction, folds, level, seed)
    counts = np.asarray(labels.sum(axis=0)).ravel().astype(int).tolist()
    report = AuditReport(
        name=split.name,
        n=len(split),
        label_counts=dict(zip(names, counts, strict=True)),
        findings=findings,
        probes=probes,
        groups={} if split.groups is None else split.groups.counts(),
        tests=tests,
        min_count=min_count,
        min_difference=min_difference,
        false_discovery_rate=false_discovery_rate,
        target=target,
        group_findings=group_findings,
        error_rate=_error_rate(split, predicted),
    )
    return report.with_advice(advise(report))


def _check_arguments(
    split, target, predictions, min_count, min_difference, rate, folds
):
    if not isinstance(split, Split):
        raise TypeError(
            f"Expected a `Split`. Received: {type(split).__name__}. Use "
            "`keras_debias.data.Split(x, y)`."
        )
    if target not in TARGETS:
        raise ValueError(
            f"Expected `target` to be one of {TARGETS}. Received: "
            f"target={target!r}"
        )
    if target == "errors" and predictions is None:
        raise ValueError(
            'Expected `predictions` for `target="errors"`. Received: '
            "predictions=None. Pass what the model predicts for each row, for "
            "instance `predictions=model.predict(split.x)`."
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
    """Labels as sparse zeros and ones `(n, labels)`, and their names."""
    y = split.y
    multi_hot = y is not None and y.ndim == 2 and np.isin(y, (0, 1)).all()
    if multi_hot:
        names = split.label_names or map(str, range(y.shape[1]))
        labels = sparse.csr_matrix(y.astype("float64"))
    else:
        y = class_labels(split, "`audit`")
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                "Expected at least two classes. Received: the only label "
                f"{_name(split, classes[0])!r} in all {len(split)} rows."
            )
        names = [_name(split, label) for label in classes]
        labels = one_hot(codes, len(classes))
    names = list(names)
    counts = np.asarray(labels.sum(axis=0)).ravel()
    varied = (counts > 0) & (counts < len(split))
    if not varied.any():
        raise ValueError(
            "Expected labels that some rows have and others have not. "
            f"Received: labels {names}, each in all rows or in none."
        )
    return labels[:, varied], [n for n, v in zip(names, varied) if v]


def _name(split, label) -> str:
    names = split.label_names
    return str(label) if names is None else names[label]


def _confusions(split, predicted):
    """The pairs of true class and prediction."""
    if split.y.ndim == 2:
        # The same columns as the labels that are tested.
        varied = (split.y.min(axis=0) == 0) & (split.y.max(axis=0) == 1)
        return label_confusions(split.y[:, varied], predicted[:, varied])
    classes, true = np.unique(split.y, return_inverse=True)
    known = np.isin(predicted, classes)
    guess = np.where(known, np.searchsorted(classes, predicted), len(classes))
    return class_confusions(true, guess, len(classes))


def _errors(split, labels, names, predicted):
    """Classes and wrong predictions `(n, classes)`, and their names."""
    if split.y.ndim == 2:
        varied = (split.y.min(axis=0) == 0) & (split.y.max(axis=0) == 1)
        has, said = split.y[:, varied], predicted[:, varied]
        classes = np.concatenate([has, 1 - has], axis=1)
        wrong = np.concatenate([has * (1 - said), (1 - has) * said], axis=1)
        names = [*names, *(f"not {name}" for name in names)]
        classes = sparse.csr_matrix(classes.astype("float64"))
        wrong = sparse.csr_matrix(wrong.astype("float64"))
    else:
        mistaken = (predicted != split.y).astype("float64")
        classes = labels
        wrong = sparse.csr_matrix(labels.multiply(mistaken[:, None]))
    if not wrong.sum():
        raise ValueError(
            "Expected predictions of which some are wrong. Received: "
            f"{len(split)} correct ones. On the rows that a model was trained "
            "on, use out-of-fold predictions."
        )
    return classes, wrong, names


def _error_rate(split, predicted):
    if predicted is None:
        return None
    wrong = predicted != split.y
    return float(wrong.any(axis=1).mean() if wrong.ndim == 2 else wrong.mean())
