import keras
from keras import ops

from keras_debias.utils.numbers import is_number


@keras.saving.register_keras_serializable(package="keras_debias")
class TwoPhase(keras.optimizers.schedules.LearningRateSchedule):
    """A weight that is zero at first, then rises and stays.

    Zero for the share `warmup` of the steps, linear over the next `ramp`,
    then constant: the model learns the task before the term sets in.

    Args:
        weight: float of at least 0. The weight of the second phase.
        steps: int. Updates of the whole run.
        warmup: float in [0, 1]. Share of the steps without the term.
            Defaults to `0.2`.
        ramp: float in [0, 1]. Share of the steps of the rise. Defaults to
            `0.05`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> schedule = TwoPhase(0.005, steps=1000)
    >>> [round(float(schedule(step)), 4) for step in (100, 225, 500)]
    [0.0, 0.0025, 0.005]

    Reference:
        BA-LoRA, appendix B.4, names the schedule and the two shares; its
        shape is our reading.
    """

    def __init__(self, weight, steps, warmup=0.2, ramp=0.05):
        if not (is_number(weight) and weight >= 0):
            raise ValueError(
                "Expected `weight` to be a finite number of at least 0. "
                f"Received: weight={weight!r}"
            )
        if not (is_number(steps) and steps >= 1):
            raise ValueError(
                f"Expected `steps` to be at least 1. Received: steps={steps!r}"
            )
        shares = is_number(warmup) and is_number(ramp)
        if not (shares and min(warmup, ramp) >= 0 and warmup + ramp <= 1):
            raise ValueError(
                "Expected `warmup` and `ramp` to be shares of at most 1 "
                f"together. Received: warmup={warmup!r}, ramp={ramp}"
            )
        self.weight = weight
        self.steps = steps
        self.warmup = warmup
        self.ramp = ramp

    def __call__(self, step):
        # In steps, not shares: 0.2 has no exact float32.
        start = self.warmup * self.steps
        rise = max(self.ramp * self.steps, 1e-6)
        risen = (ops.cast(step, "float32") - start) / rise
        return self.weight * ops.clip(risen, 0.0, 1.0)

    def get_config(self):
        return {
            "weight": self.weight,
            "steps": self.steps,
            "warmup": self.warmup,
            "ramp": self.ramp,
        }
