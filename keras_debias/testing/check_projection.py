from keras_debias.projections.projection import Projection
from keras_debias.testing.test_case import TestCase


def check_projection(projection, idempotent: bool = False) -> None:
    """Checks the contract of every projection.

    A copy from its config is equal. Updates have the shapes and dtypes of the
    variables. They are finite for gradients of zero, and for very small and
    very large ones.

    Args:
        projection: a `Projection`.
        idempotent: bool. Whether projecting twice must equal projecting
            once. Defaults to `False`.

    Raises:
        TypeError: If `projection` is not a `Projection`.
        AssertionError: If a check fails.

    Example:

    ```python
    kd.testing.check_projection(MyProjection())
    ```
    """
    if not isinstance(projection, Projection):
        raise TypeError(
            "Expected `projection` to be a `kd.projections.Projection`. "
            f"Received: projection={projection!r}"
        )
    TestCase().run_projection_test(projection, idempotent)
