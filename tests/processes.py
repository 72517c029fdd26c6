"""What the suite has in common with processes that its tests start."""

import keras


def as_in_the_suite() -> None:
    """Leaves graphs as they are, which others match to the last bit.

    Every graph runs for a few steps: optimizing it does not pay.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": True}
        )
