"""What a process that a test starts has to do."""

import keras


def as_in_the_suite() -> None:
    """Computes as `tests/conftest.py` has it, to the last bit."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )
