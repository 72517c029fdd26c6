"""`audit`: which features predict the label, before any training."""

import typing

import numpy as np
from scipy import sparse

from keras_debias.auditing.advice import advise
from keras_debias.auditing.association import associations
from keras_debias.auditing.association import false_discovery_adjusted
from keras_debias.auditing.audit_report import AuditReport
from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.auditing.excess_errors import class_confusions
from keras_debias.auditing.excess_errors import harms
from keras_debias.auditing.excess_errors import label_confusions
from keras_debias.auditing.excess_errors import one_hot
from keras_debias.auditing.extraction import extract
from keras_debias.auditing.feature import GROUP
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.fields import fields_of
from keras_debias.auditing.finding import Finding
from keras_debias.auditing.group_attributes import group_attributes
from keras_debias.auditing.partial_input_probe import run_probe
from keras_debias.auditing.predictions import predicted_labels
from keras_debias.auditing.progress import Progress
from keras_debias.data.checks import class_labels
from keras_debias.data.split import Split

TARGETS = ("labels", "errors")
# Features that are tested at a time, for a steady progress bar.
CHUNK = 10_000
# A probe learns little from more rows, and takes much longer.
PROBE_ROWS = 50_000


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
) -> AuditReport:
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

    A finding alone is no proof of a shortcut: "no" may mark a contradiction
    because it denies something. The tests take rows as independent. Where
    many rows share a premise, p-values of findings on premises are too
    small. Sample weights are not used.

    Texts are read in chunks, and what was counted goes to a temporary file
    when it is large. A million rows take minutes; a progress bar appears
    after five seconds.

    Args:
        split: `Split` of texts, tuples of texts or images, with one class
            for each row, or with multi-hot labels (then there are no
            probes).
        target: `"labels"` or `"errors"`. Defaults to `"labels"`.
        predictions: what a model predicts for each row of `split`: class ids
            or label names of shape `(n,)`, or probabilities or logits of
            shape `(n, classes)`; for multi-hot labels zeros and ones of
            shape `(n, labels)`. For rows that the model was trained on use
            out-of-fold predictions: a model that has memorized its training
            rows makes no errors there. Defaults to `None`.
        fields: sequence of strings, the names of the texts, or `None`: a
            pair is called premise and hypothesis.
        min_count: int. Features of fewer rows are not tested. Defaults to
            `20`.
        min_difference: float. The smallest difference that is reported:
            `P(label | feature) - P(label)`, or between the error rates with
            the feature and of the class. Defaults to `0.05`.
        false_discovery_rate: float. The expected share of false findings,
            controlled after Benjamini and Hochberg over all features and
            labels; also the level of the probes and of `harm`. Defaults to
            `0.01`.
        folds: int. Folds of the cross-validation of the probes, on at most
            50,000 rows; `0` for no probes. Defaults to `5`.
        seed: int, of the folds. Defaults to `0`.

    Returns:
        An `AuditReport`; printing it shows tables.

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
    labels, names = _labels(split)
    fields = fields_of(split, fields)
    predicted = None
    if predictions is not None:
        predicted = predicted_labels(split, predictions)
    groups = _group_features(split, min_count)
    level = false_discovery_rate
    if target == "errors":
        classes, wrong, names_of = _errors(split, labels, names, predicted)
        extraction = extract(split, fields, min_count)
        arguments = (classes, wrong, names_of, min_count, min_difference, level)
        findings, tests = _error_slices(extraction, *arguments)
        group_findings, _ = _error_slices(groups, *arguments)
    else:
        confused = None
        if predicted is not None:
            confused = _confusions(split, predicted)
        extraction = extract(split, fields, min_count)
        arguments = (labels, names, confused, min_difference, level)
        findings, tests = _findings(extraction, *arguments)
        group_findings, _ = _findings(groups, *arguments)
    probes = ()
    if folds and split.y.ndim == 1 and target == "labels":
        probes = _probes(split.y, extraction, folds, level, seed)
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
        there, codes = np.unique(y, return_inverse=True)
        if len(there) < 2:
            raise ValueError(
                "Expected at least two classes. Received: the only label "
                f"{_name(split, there[0])!r} in all {len(split)} rows."
            )
        names = [_name(split, label) for label in there]
        labels = one_hot(codes, len(there))
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
    """The classes of the rows crossed with what is predicted."""
    if split.y.ndim == 2:
        # The same columns as the labels that are tested.
        varied = (split.y.min(axis=0) == 0) & (split.y.max(axis=0) == 1)
        return label_confusions(split.y[:, varied], predicted[:, varied])
    there, true = np.unique(split.y, return_inverse=True)
    known = np.isin(predicted, there)
    guess = np.where(known, np.searchsorted(there, predicted), len(there))
    return class_confusions(true, guess, len(there))


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
        classes, wrong = (
            labels,
            sparse.csr_matrix(labels.multiply(mistaken[:, None])),
        )
    if not wrong.nnz or not wrong.sum():
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


class _GroupFeatures:
    """The values of group attributes, counted as an `Extraction` is."""

    def __init__(self, features, columns):
        self.features = features
        self._columns = columns

    def count(self, indicators, features=None):
        columns = self._columns
        if features is not None:
            columns = columns[:, features]
        return (columns.T @ indicators).toarray()


def _group_features(split, min_count):
    features, columns = [], [sparse.csr_matrix((len(split), 0))]
    for attribute, groups in group_attributes(split).items():
        counts = np.bincount(groups.ids, minlength=len(groups.names))
        kept = np.flatnonzero((counts >= min_count) & (counts < len(split)))
        features += [
            Feature(attribute, GROUP, attribute, token=groups.names[value])
            for value in kept
        ]
        columns.append(one_hot(groups.ids, len(groups.names))[:, kept])
    return _GroupFeatures(features, sparse.hstack(columns, format="csr"))


def _tested(both, with_feature, with_label, n):
    """`associations` of many features, in chunks."""
    parts = []
    progress = Progress("Testing features", len(both), "feature")
    for at in range(0, max(len(both), 1), CHUNK):
        part = slice(at, at + CHUNK)
        parts.append(
            associations(both[part], with_feature[part], with_label, n)
        )
        progress.add(len(both[part]))
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def _strongest(phi, reported):
    """Positions of what is reported, in descending order of `phi`.

    `phi` weighs how telling a feature is against how many rows have it.
    """
    return sorted(zip(*np.nonzero(reported)), key=lambda at: -phi[at])


def _findings(extraction, labels, names, confused, min_difference, level):
    """Findings of the features, and the number of tests."""
    rows = labels.shape[0]
    ones = sparse.csr_matrix(np.ones((rows, 1)))
    counts = extraction.count(sparse.hstack([labels, ones], format="csr"))
    found = _tested(
        counts[:, :-1],
        counts[:, -1:],
        np.asarray(labels.sum(axis=0)).reshape(1, -1),
        rows,
    )
    found["adjusted_p_value"] = false_discovery_adjusted(found["p_value"])
    reported = (found["adjusted_p_value"] <= level) & (
        found["share"] - found["prior"] >= min_difference
    )
    order = _strongest(found["phi"], reported)
    harm = [None] * len(order)
    if confused is not None and order:
        used, at = np.unique([f for f, _ in order], return_inverse=True)
        pairs = extraction.count(confused.indicators, used)
        harm = harms(pairs[at], [label for _, label in order], confused, level)
    features = extraction.features
    findings = tuple(
        Finding(
            feature=features[at[0]],
            label=names[at[1]],
            harm=each,
            **{
                key: int(values[at]) if key == "n" else float(values[at])
                for key, values in found.items()
            },
        )
        for at, each in zip(order, harm, strict=True)
    )
    return findings, len(features) * labels.shape[1]


def _error_slices(
    extraction, classes, wrong, names, min_count, min_difference, level
):
    """Error slices of the features, and the number of tests."""
    counts = extraction.count(sparse.hstack([classes, wrong], format="csr"))
    size = classes.shape[1]
    rows, errors = counts[:, :size], counts[:, size:]
    all_rows = np.asarray(classes.sum(axis=0)).reshape(1, -1)
    all_errors = np.asarray(wrong.sum(axis=0)).reshape(1, -1)
    found = _tested(errors, rows, all_errors, all_rows)
    # What no row, or every row of a class has cannot go with its errors.
    tested = (rows >= min_count) & (rows < all_rows) & (all_errors > 0)
    adjusted = np.ones(rows.shape)
    adjusted[tested] = false_discovery_adjusted(found["p_value"][tested])
    reported = (
        tested
        & (adjusted <= level)
        & (found["share"] - found["prior"] >= min_difference)
    )
    features = extraction.features
    slices = tuple(
        ErrorSlice(
            feature=features[at[0]],
            label=names[at[1]],
            n=int(rows[at]),
            errors=int(errors[at]),
            error_rate_with=float(found["share"][at]),
            error_rate_without=float(
                (all_errors[0, at[1]] - errors[at])
                / (all_rows[0, at[1]] - rows[at])
            ),
            adjusted_p_value=float(adjusted[at]),
            **{
                key: float(found[key][at])
                for key in ("z", "p_value", "odds_ratio", "phi")
            },
        )
        for at in _strongest(found["phi"], reported)
    )
    return slices, int(tested.sum())


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
