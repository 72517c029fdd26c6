import enum


class GradientSource(enum.Enum):
    """What has gradients in a step but is not a function of the losses."""

    REGULARIZERS = "regularizers"
