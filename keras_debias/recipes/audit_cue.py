import dataclasses

import keras
import numpy as np

from keras_debias.audit import audit
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.group_inference import GroupInference
from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class AuditCue(GroupInference):
    """Groups by label x what the strongest finding of an audit hints at.

    `kd.audit` looks for features of texts or pictures that go with a label.
    The strongest finding is taken for the shortcut, together with its
    sisters: where it is a hue, all hues that go with a label; a token stands
    alone. The cue of a row hints at its own label, at another, or the row
    has none. It needs no training and no budget. It cannot tell a shortcut
    from what honestly belongs to a class (word overlap does say something
    about entailment): look at `notes["cue"]` before you believe the result.

    Attributes:
        min_count: int, see `kd.audit`. Defaults to `20`.
        min_difference: float, see `kd.audit`. Defaults to `0.05`.
        false_discovery_rate: float, see `kd.audit`. Defaults to `0.01`.

    Raises:
        ValueError: In `infer`, if the audit finds nothing, or labels are not
            one class a row; see also `kd.audit`.

    Example:

    ```python
    method = kd.recipes.BalancedSampling(groups=kd.recipes.AuditCue())
    ```
    """

    min_count: int = 20
    min_difference: float = 0.05
    false_discovery_rate: float = 0.01

    def __post_init__(self):
        for name in ("min_count", "min_difference", "false_discovery_rate"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise ValueError(
                    f"Expected `{name}` to be a finite number of at least 0. "
                    f"Received: {name}={value!r}"
                )

    def infer(self, trainer, train):
        check_class_labels(train, self)
        report = audit(
            train,
            min_count=self.min_count,
            min_difference=self.min_difference,
            false_discovery_rate=self.false_discovery_rate,
            folds=0,
        )
        if not report.findings:
            raise ValueError(
                "Expected a feature that goes with a label beyond chance. "
                f"Received: none of {report.tests:,} pairs of feature and "
                "label. Use a method that needs no groups."
            )
        first = report.findings[0].feature
        names = train.label_names or tuple(map(str, range(train.y.max() + 1)))
        hints = np.full(len(train), -1)
        cues = []
        # The stronger ones last: they have the last word.
        for finding in reversed(report.findings):
            feature = finding.feature
            if _family(feature) == _family(first):
                cues.append(f"{feature} -> {finding.label}")
                hints[feature.present(train)] = names.index(finding.label)
        trainer.notes["cue"] = cues[::-1]
        hint = np.where(hints < 0, "none", "other")
        hint[hints == train.y] = "own"
        return train.with_label_groups({"cue": hint.tolist()}).groups


def _family(feature):
    return feature.column, feature.measure, feature.token
