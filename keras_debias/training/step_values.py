import dataclasses


@dataclasses.dataclass(frozen=True)
class StepValues:
    """What a step computes from the outputs of its forward pass.

    Attributes:
        objectives: list of scalars, one for each objective, scaled as the
            optimizer needs them.
        terms: list of scalars, the regularizers before their weights.
        is_finite: bool scalar. Whether the batch may reach the weights.
    """

    objectives: list
    terms: list
    is_finite: object
