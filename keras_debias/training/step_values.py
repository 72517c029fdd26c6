import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class StepValues:
    """The scalars that a step computes from one forward pass.

    Attributes:
        loss: the task's loss.
        objectives: one value for each objective, scaled as the optimizer
            needs them.
        terms: the regularizers before their weights.
        is_finite: bool. Whether the batch may reach the weights.
    """

    loss: Any
    objectives: Any
    terms: list
    is_finite: Any
