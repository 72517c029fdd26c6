from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.testing.test_case import TestCase


def check_regularizer(regularizer) -> None:
    """Checks the contract of every regularizer.

    A copy from its config is equal. Its value is a float32 scalar that is not
    constant. Masked rows have no influence and no gradient. Values and
    gradients are finite for small and large logits.

    Args:
        regularizer: a `Regularizer` that accepts four outputs and more.

    Raises:
        TypeError: If `regularizer` is not a `Regularizer`.
        AssertionError: If a check fails.

    Example:

    ```python
    kd.testing.check_regularizer(MyRegularizer(weight=0.1))
    ```
    """
    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            "Expected `regularizer` to be a `kd.regularizers.Regularizer`. "
            f"Received: regularizer={regularizer!r}"
        )
    TestCase().run_regularizer_test(regularizer)
