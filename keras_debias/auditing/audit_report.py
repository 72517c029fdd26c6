"""`AuditReport`: the result of `audit`, to read, print, save and plot."""

import dataclasses
import json
import os

import numpy as np
import pandas as pd

from keras_debias.auditing import error_slice
from keras_debias.auditing import finding
from keras_debias.auditing import page
from keras_debias.auditing import plot
from keras_debias.auditing import table
from keras_debias.auditing.advice import Advice
from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.auditing.feature import presence
from keras_debias.auditing.finding import Finding
from keras_debias.auditing.partial_input_probe import PartialInputProbe
from keras_debias.utils.files import write_text

# Candidates of `distinct` that are looked up in one pass over the texts.
CANDIDATES = 32


@dataclasses.dataclass(frozen=True, repr=False)
class AuditReport:
    """The result of an audit; printing it shows tables.

    Args:
        name: string or `None`, the name of the split.
        n: int, the number of rows.
        label_counts: dict from label to its number of rows.
        findings: tuple of `Finding`, or of `ErrorSlice` for
            `target="errors"`, the strongest first.
        probes: tuple of `PartialInputProbe`.
        groups: dict from group to its number of rows; empty without groups.
        tests: int, the number of pairs of feature and label that were tested.
        min_count: int, see `audit`.
        min_difference: float, see `audit`.
        false_discovery_rate: float, see `audit`.
        advice: tuple of `Advice`. Defaults to `()`.
        target: string, see `audit`. Defaults to `"labels"`.
        group_findings: tuple like `findings`, of the attributes of the
            split's own groups. Defaults to `()`.
        error_rate: float, the share of wrong predictions. Defaults to `None`:
            there were no predictions.

    Example:

    ```python
    report = kd.audit(train)
    report.findings[0].label
    report.to_json("audit.json")
    ```
    """

    name: str | None
    n: int
    label_counts: dict[str, int]
    findings: tuple[Finding | ErrorSlice, ...]
    probes: tuple[PartialInputProbe, ...]
    groups: dict[str, int]
    tests: int
    min_count: int
    min_difference: float
    false_discovery_rate: float
    advice: tuple[Advice, ...] = ()
    target: str = "labels"
    group_findings: tuple[Finding | ErrorSlice, ...] = ()
    error_rate: float | None = None

    @property
    def single_label(self) -> bool:
        """Whether every row has one label."""
        return sum(self.label_counts.values()) == self.n

    @property
    def smallest_group(self) -> tuple[str, int] | None:
        """Name and number of rows of the smallest group."""
        if not self.groups:
            return None
        return min(self.groups.items(), key=lambda item: item[1])

    def with_advice(self, advice) -> "AuditReport":
        """The same report with other advice.

        Args:
            advice: sequence of `Advice`.

        Returns:
            An `AuditReport`.
        """
        return dataclasses.replace(self, advice=tuple(advice))

    def by_harm(self) -> "AuditReport":
        """The same report, ordered by the errors that a cue costs.

        Harmful findings come first, those with the most excess errors at the
        top; slices of errors are ordered by their excess errors alone.

        Returns:
            An `AuditReport`.

        Raises:
            ValueError: If the audit was made without predictions.

        Example:

        ```python
        report = kd.audit(train, predictions=out_of_fold).by_harm()
        harmful = [f for f in report.findings if f.harm.significant]
        ```
        """
        if self.error_rate is None:
            raise ValueError(
                "Expected a report with predictions. Received: one without. "
                "Use `kd.audit(split, predictions=...)`."
            )
        return dataclasses.replace(
            self,
            findings=_by_harm(self.findings),
            group_findings=_by_harm(self.group_findings),
        )

    def distinct(self, split, n: int = 2, max_phi: float = 0.3) -> tuple:
        """The first findings whose features hardly go together.

        Many findings name one cue: "not" and "has a negation". From the
        first finding on, one is taken if its feature is correlated with
        those of all taken before by less than `max_phi`.

        Args:
            split: `Split`: the one audited, or another of its kind.
            n: int, how many findings at most. Defaults to `2`.
            max_phi: float, the bound of the absolute correlation of two
                features. Defaults to `0.3`.

        Returns:
            Tuple of `Finding` or `ErrorSlice`, in the order of the report;
            fewer than `n` if there are no more.

        Raises:
            ValueError: If an argument is out of range, or the split lacks a
                field.

        Example:

        ```python
        report = kd.audit(train, predictions=out_of_fold).by_harm()
        first, second = report.distinct(train, n=2)
        ```
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(
                "Expected `n` to be an integer of at least 1. Received: "
                f"n={n!r}"
            )
        if not 0 < max_phi <= 1:
            raise ValueError(
                "Expected `max_phi` above 0 and at most 1. Received: "
                f"max_phi={max_phi}"
            )
        chosen, columns = [], []
        for at in range(0, len(self.findings), CANDIDATES):
            candidates = self.findings[at : at + CANDIDATES]
            present = presence([f.feature for f in candidates], split)
            for candidate, column in zip(candidates, present.T, strict=True):
                if all(abs(_phi(column, c)) < max_phi for c in columns):
                    chosen.append(candidate)
                    columns.append(column)
                if len(chosen) == n:
                    return tuple(chosen)
        return tuple(chosen)

    def to_pandas(self) -> pd.DataFrame:
        """One line for each finding, in the order of the report.

        Returns:
            A `pandas.DataFrame`; without findings it has columns and no line.
        """
        if not self.findings:
            kind = error_slice if self.target == "errors" else finding
            return pd.DataFrame(columns=kind.COLUMNS)
        return pd.DataFrame([f.to_record() for f in self.findings])

    def to_dict(self) -> dict:
        """The report as a dict that JSON can hold."""
        return {
            **dataclasses.asdict(self),
            "findings": [f.to_dict() for f in self.findings],
            "group_findings": [f.to_dict() for f in self.group_findings],
        }

    @classmethod
    def from_dict(cls, values: dict) -> "AuditReport":
        """Restores a report from `to_dict`."""
        kind = ErrorSlice if values["target"] == "errors" else Finding
        made = {
            "findings": tuple(map(kind.from_dict, values["findings"])),
            "group_findings": tuple(
                map(kind.from_dict, values["group_findings"])
            ),
            "probes": tuple(PartialInputProbe(**p) for p in values["probes"]),
            "advice": tuple(
                Advice(**{**a, "methods": tuple(a["methods"])})
                for a in values["advice"]
            ),
        }
        return cls(**{**values, **made})

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes the report to a JSON file."""
        write_text(
            path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "AuditReport":
        """Reads a report from a file of `to_json`."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def to_html(self, path: str | os.PathLike) -> None:
        """Writes the report to one HTML page that needs no other file."""
        content = page.report_page(self)
        write_text(path, content)

    def plot(self, path: str | os.PathLike | None = None, top: int = 15):
        """Draws the strongest findings, and the probes.

        For each finding P(label) and P(label | feature); for slices of
        errors the error rates without and with the feature.

        Args:
            path: path of the image file to be written. Defaults to `None`:
                nothing is written.
            top: int, how many findings. Defaults to `15`.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return plot.plot_report(self, path, top)

    def __repr__(self) -> str:
        return (
            f"AuditReport(name={self.name!r}, n={self.n}, "
            f"findings={len(self.findings)}, probes={len(self.probes)})"
        )

    def __str__(self) -> str:
        return table.report_table(self)

    def _repr_html_(self) -> str:
        return page.report_body(self)


def _by_harm(findings) -> tuple:
    def excess(each):
        if isinstance(each, ErrorSlice):
            return True, each.excess_errors
        return each.harm.significant, each.harm.excess_errors

    return tuple(sorted(findings, key=excess, reverse=True))


def _phi(first, second) -> float:
    """Correlation of two yes-or-no features; 0 if one is constant."""
    first, second = first.astype("float64"), second.astype("float64")
    deviations = first.std() * second.std()
    if deviations == 0:
        return 0.0
    covariance = (first * second).mean() - first.mean() * second.mean()
    return float(covariance / deviations)
