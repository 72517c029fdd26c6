"""`AuditReport`: what `audit` found, to read, print, save and plot."""

import dataclasses
import json
import os

import pandas as pd

from keras_debias.audit import plot
from keras_debias.audit import table
from keras_debias.audit.advice import Advice
from keras_debias.audit.finding import Finding
from keras_debias.audit.partial_input_probe import PartialInputProbe
from keras_debias.utils.files import written_whole


@dataclasses.dataclass(frozen=True, repr=False)
class AuditReport:
    """What an audit found; printing it shows tables.

    Args:
        name: string or `None`, the name of the split.
        n: int, the number of rows.
        label_counts: dict from label to its number of rows.
        findings: tuple of `Finding`, the strongest first.
        probes: tuple of `PartialInputProbe`.
        groups: dict from group to its number of rows; empty without groups.
        tests: int, the number of pairs of feature and label that were tested.
        min_count: int, see `audit`.
        min_difference: float, see `audit`.
        false_discovery_rate: float, see `audit`.
        advice: tuple of `Advice`.

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
    findings: tuple[Finding, ...]
    probes: tuple[PartialInputProbe, ...]
    groups: dict[str, int]
    tests: int
    min_count: int
    min_difference: float
    false_discovery_rate: float
    advice: tuple[Advice, ...] = ()

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
        """The same report with other advice."""
        return dataclasses.replace(self, advice=tuple(advice))

    def to_pandas(self) -> pd.DataFrame:
        """One line a finding, the strongest first."""
        columns = ("label", "n", "prior", "share", "lift", "odds_ratio")
        columns += ("phi", "z", "p_value", "adjusted_p_value")
        return pd.DataFrame(
            [
                [str(f.feature), *(getattr(f, c) for c in columns)]
                for f in self.findings
            ],
            columns=["feature", *columns],
        )

    def to_dict(self) -> dict:
        """The report as JSON would hold it."""
        return {
            **dataclasses.asdict(self),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, values: dict) -> "AuditReport":
        """Makes a report of what `to_dict` returns."""
        made = {
            "findings": tuple(map(Finding.from_dict, values["findings"])),
            "probes": tuple(PartialInputProbe(**p) for p in values["probes"]),
            "advice": tuple(
                Advice(**{**a, "methods": tuple(a["methods"])})
                for a in values["advice"]
            ),
        }
        return cls(**{**values, **made})

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes the report to a JSON file."""
        with written_whole(path) as temporary:
            temporary.write_text(
                json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n",
                encoding="utf-8",
            )

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "AuditReport":
        """Reads a report that `to_json` wrote."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def plot(self, path: str | os.PathLike | None = None, top: int = 15):
        """Draws P(label | feature) of the strongest findings, and probes.

        Args:
            path: path of a picture to be written, or `None`.
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
