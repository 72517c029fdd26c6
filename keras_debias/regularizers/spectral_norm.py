import enum


class SpectralNorm(enum.Enum):
    """The norm that the sum of the leading singular values is divided by.

    `NUCLEAR` is the sum of all singular values, `FROBENIUS` the root of the
    sum of their squares, which needs no decomposition.

    Example:

    >>> regularizer = kd.regularizers.SpectralConcentration(
    ...     weight=0.1, norm=SpectralNorm.FROBENIUS
    ... )
    """

    NUCLEAR = "nuclear"
    FROBENIUS = "frobenius"
