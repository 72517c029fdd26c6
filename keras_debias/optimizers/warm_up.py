import keras
from keras import ops

from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises to its peak, and falls or stays there.

    It rises linearly over `warmup` updates. With `steps` it then falls
    linearly, to zero after so many updates; without, it stays. For a fall
    along a cosine use `keras.optimizers.schedules.CosineDecay`, which has a
    warm-up too.

    Args:
        peak: float above 0. The highest learning rate.
        warmup: int. Updates of the rise; `0` for none. Defaults to `0`.
        steps: int, above `warmup`. Updates of the whole run. Defaults to
            `None`: the rate stays at its peak.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> schedule = WarmUp(1e-3, warmup=10, steps=110)
    >>> [round(float(schedule(step)), 5) for step in (5, 10, 60, 110)]
    [0.0005, 0.001, 0.0005, 0.0]
    """

    def __init__(self, peak, warmup=0, steps=None):
        if not (is_number(peak) and peak > 0):
            raise ValueError(
                f"Expected `peak` to be a number above 0. Received: {peak!r}"
            )
        if not (is_number(warmup) and warmup >= 0):
            raise ValueError(
                "Expected `warmup` to be a number of updates of at least 0. "
                f"Received: warmup={warmup!r}"
            )
        if steps is not None and not (is_number(steps) and steps > warmup):
            raise ValueError(
                "Expected `steps` above `warmup`, or None. Received: "
                f"steps={steps!r}, warmup={warmup!r}"
            )
        self.peak = peak
        self.warmup = warmup
        self.steps = steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        share = ops.minimum(step / max(self.warmup, 1e-6), 1.0)
        if self.warmup == 0:
            share = ops.ones_like(step)
        if self.steps is not None:
            left = (self.steps - step) / (self.steps - self.warmup)
            share = ops.minimum(share, ops.maximum(left, 0.0))
        return self.peak * share

    def get_config(self):
        return {"peak": self.peak, "warmup": self.warmup, "steps": self.steps}
