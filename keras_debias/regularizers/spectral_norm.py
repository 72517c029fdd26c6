import enum


class SpectralNorm(enum.Enum):
    """The norm that the sum of the leading singular values is divided by.

    `NUCLEAR` is the sum of all singular values, `FROBENIUS` the root of the
    sum of their squares, which needs no decomposition.
    """

    NUCLEAR = "nuclear"
    FROBENIUS = "frobenius"
