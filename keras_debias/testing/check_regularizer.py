from keras_debias.regularizers.regularizer import Regularizer
from keras_debias.testing.test_case import TestCase


def check_regularizer(regularizer) -> None:
    """Checks what every regularizer must keep.

    Its config makes an equal regularizer; its value is a float32 scalar that
    is not constant; what the mask leaves out has no influence and no
    gradient; values and gradients are finite for small and large logits.

    Args:
        regularizer: a `Regularizer` that accepts four outputs and more.

    Raises:
        TypeError: If `regularizer` is not a `Regularizer`.
        AssertionError: If something does not hold.

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
