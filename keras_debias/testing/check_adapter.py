from keras_debias.testing.test_case import TestCase


def check_adapter(create, build, data, expected_trainable, **settings) -> dict:
    """Checks the contract of every adapter, on one architecture.

    Among others: applying does not change the outputs, exactly the declared
    variables train, and saving, loading, merging and disabling are exact.

    Args:
        create: function without arguments that makes the adapter.
        build: function without arguments that makes the same built,
            uncompiled model each time.
        data: tuple `(x, y)`, a batch of an even number of rows.
        expected_trainable: set of paths of exactly the variables that must
            train.
        **settings: further arguments of `TestCase.run_adapter_test`.

    Returns:
        A dict: `"invariants"`, the numbers of those that held, and
        `"outputs"`, the outputs after ten steps.

    Raises:
        AssertionError: If an invariant does not hold.

    Example:

    ```python
    kd.testing.check_adapter(
        lambda: MyAdapter(rank=2), build_model, (x, y), {"dense/lora_a"}
    )
    ```
    """
    return TestCase().run_adapter_test(
        create, build, data, expected_trainable, **settings
    )
