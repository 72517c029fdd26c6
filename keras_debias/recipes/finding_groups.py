import dataclasses
from typing import ClassVar

import keras
import numpy as np

from keras_debias.auditing.feature import presence
from keras_debias.auditing.finding import Finding
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.recipes.shallow_model import class_names


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class FindingGroups(GroupInference):
    """Groups by label x findings of an audit that you have chosen.

    `AuditGroups` takes the strongest findings of `kd.audit`. Here a reader of
    the report says which features are shortcuts. It needs no training and no
    budget.

    When it helps: where one or several features are the shortcut. In
    `RakedSampling` every finding is an attribute of its own, so that many can
    be given without tiny groups. SNLI with a planted token and its own
    artifacts, two draws: 59.8 and 75.8 % of contradictions with the token are
    correct (plain fine-tuning 37.8 and 1.6), worst group 32.4 and 16.0 % (18.2
    and 0.0).

    Attributes:
        findings: a `kd.auditing.Finding`, or a tuple of them.

    Raises:
        TypeError: If `findings` are no findings.
        ValueError: If there are none; in `cells`, if a finding's label or
            field is not in the data.

    Example:

    ```python
    report = kd.audit(train)
    groups = kd.recipes.FindingGroups(report.findings[:2])
    method = kd.recipes.BalancedSampling(groups=groups)
    ```
    """

    attribute: ClassVar[str] = "finding"

    findings: tuple[Finding, ...]

    def __post_init__(self):
        findings = self.findings
        if isinstance(findings, Finding):
            findings = (findings,)
        if not isinstance(findings, (tuple, list)) or not all(
            isinstance(finding, Finding) for finding in findings
        ):
            raise TypeError(
                "Expected `findings` to be findings of `kd.audit`, such as "
                "`report.findings[:2]`. Received: "
                f"findings={self.findings!r}"
            )
        if not findings:
            raise ValueError(
                "Expected at least one finding. Received: findings=()"
            )
        object.__setattr__(self, "findings", tuple(findings))

    def cells(self, trainer, train, split=None):
        """The features of the findings that each row has.

        Args:
            trainer: `recipes.Trainer`; not used.
            train: `kd.data.Split` with one class a row.
            split: `kd.data.Split` whose rows get a cell. Defaults to `None`:
                the rows of `train`.

        Returns:
            An array of strings of shape `(n,)`, for each finding its feature,
            or `"none"` where the row lacks it.

        Raises:
            ValueError: If a finding's label is not a class of `train`.
        """
        found = [
            np.where(present, str(finding.feature), "none")
            for finding, present in zip(
                self.findings, self.views(trainer, train, split), strict=True
            )
        ]
        return np.array([" and ".join(row) for row in zip(*found, strict=True)])

    def views(self, trainer, train, split=None):
        check_class_labels(train, self)
        names = class_names(train)
        for finding in self.findings:
            if finding.label not in names:
                raise ValueError(
                    "Expected findings of this data, whose classes are "
                    f"{', '.join(names)}. Received: {finding.feature} -> "
                    f"{finding.label}"
                )
        rows = train if split is None else split
        features = [finding.feature for finding in self.findings]
        return list(presence(features, rows).T)

    def get_config(self):
        return {"findings": [finding.to_dict() for finding in self.findings]}

    @classmethod
    def from_config(cls, config):
        return cls(tuple(map(Finding.from_dict, config["findings"])))
