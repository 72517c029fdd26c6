import dataclasses
import json
import os

import pandas as pd

from keras_debias.auditing import target_page
from keras_debias.auditing.target_finding import COLUMNS
from keras_debias.auditing.target_finding import TargetFinding
from keras_debias.evaluation.table import text_table
from keras_debias.utils.files import write_text

TOP = 20


@dataclasses.dataclass(frozen=True, repr=False)
class TargetReport:
    """The audit of a split whose labels are numbers; printing shows tables.

    Args:
        name: string or `None`, the name of the split.
        n: int, the number of rows.
        target: string, `"labels"` or `"errors"` (absolute errors).
        mean, std: floats, of what the features were tested against.
        findings: tuple of `TargetFinding`, the strongest first.
        group_findings: the same of the attributes of the split's own groups.
        tests: int, the number of features that were tested.
        min_count: int, see `audit`.
        min_difference: float, the least absolute correlation reported.
        false_discovery_rate: float, see `audit`.

    Example:

    ```python
    report = kd.audit(kd.data.sentences(target="valence"))
    report.findings[0].correlation
    ```
    """

    name: str | None
    n: int
    target: str
    mean: float
    std: float
    findings: tuple[TargetFinding, ...]
    group_findings: tuple[TargetFinding, ...]
    tests: int
    min_count: int
    min_difference: float
    false_discovery_rate: float

    def to_pandas(self) -> pd.DataFrame:
        """One line for each finding, in the order of the report.

        Returns:
            A `pandas.DataFrame`; without findings it has columns and no line.
        """
        return pd.DataFrame(
            [f.to_record() for f in self.findings], columns=list(COLUMNS)
        )

    def to_dict(self) -> dict:
        """The report as a dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TargetReport":
        """Restores a report from `to_dict`."""
        made = {
            key: tuple(map(TargetFinding.from_dict, values[key]))
            for key in ("findings", "group_findings")
        }
        return cls(**{**values, **made})

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes the report to a JSON file."""
        write_text(
            path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "TargetReport":
        """Reads a report from a file of `to_json`."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def to_html(self, path: str | os.PathLike) -> None:
        """Writes the report to one HTML page that needs no other file."""
        write_text(path, target_page.report_page(self))

    def _repr_html_(self) -> str:
        return target_page.report_body(self)

    def __repr__(self) -> str:
        return (
            f"TargetReport(name={self.name!r}, n={self.n}, "
            f"findings={len(self.findings)})"
        )

    def __str__(self) -> str:
        what = target_page.target_name(self)
        parts = [
            f"{self.name or 'split'}: {self.n:,} rows, {what} "
            f"{self.mean:.3g} ± {self.std:.3g}"
        ]
        if self.findings:
            shown = self.findings[:TOP]
            count = f"{len(self.findings):,} findings"
            if len(self.findings) > TOP:
                count += f", the first {TOP}"
            parts += [count, _table(shown)]
        else:
            parts.append(f"Nothing goes with the {what} beyond chance.")
        parts.append(
            f"{self.tests:,} features tested, false discovery rate "
            f"{100 * self.false_discovery_rate:g} %, rank correlation of at "
            f"least {self.min_difference:g}"
        )
        if self.group_findings:
            parts += [
                "The split's own group attributes",
                _table(self.group_findings),
            ]
        return "\n\n".join(parts)


def _table(findings) -> str:
    return text_table(list(target_page.HEADER), target_page.rows(findings))
