import enum


class SpectralNorm(enum.Enum):
    """What the leading singular values are compared with.

    `NUCLEAR` is the sum of all singular values, `FROBENIUS` the root of the
    sum of their squares, which needs no decomposition.
    """

    NUCLEAR = "nuclear"
    FROBENIUS = "frobenius"
