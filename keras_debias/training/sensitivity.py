"""How sensitive the loss is to each entry of some weights, over time."""

import keras
from keras import ops


class Sensitivity(keras.metrics.Metric):
    """Running averages of `|w dL/dw|` and of how much it varies.

    A metric in name: Keras threads its weights through the compiled steps of
    every backend. It logs nothing and is not reset between epochs.

    Args:
        variables: list of the variables to watch.
        beta1: float in (0, 1). Share of the past in the average.
        beta2: float in (0, 1). Share of the past in the variation.
    """

    def __init__(self, variables, beta1, beta2):
        super().__init__(name="sensitivity")
        self.beta1 = beta1
        self.beta2 = beta2
        self.positions = {id(v): i for i, v in enumerate(variables)}

        def zeros(variable, name):
            return self.add_variable(
                tuple(variable.shape), "zeros", dtype="float32", name=name
            )

        self._average = [zeros(v, "average") for v in variables]
        self._variation = [zeros(v, "variation") for v in variables]

    def update_state(self, gradients, variables, scale):
        """Takes in the gradients of a step, `scale` times too large."""
        for gradient, variable in zip(gradients, variables):
            position = self.positions.get(id(variable))
            if position is None:
                continue
            average = self._average[position].value
            variation = self._variation[position].value
            now = ops.cast(gradient, "float32") / scale
            now = ops.abs(ops.stop_gradient(variable.value) * now)
            smooth = self.beta1 * average + (1 - self.beta1) * now
            varied = self.beta2 * variation
            varied = varied + (1 - self.beta2) * ops.abs(now - smooth)
            # Nothing of a batch that is refused.
            finite = ops.all(ops.isfinite(now))
            self._average[position].assign(ops.where(finite, smooth, average))
            self._variation[position].assign(
                ops.where(finite, varied, variation)
            )

    def watches(self, other) -> bool:
        """Whether this one does what another would."""
        mine, theirs = ((x.beta1, x.beta2, x.positions) for x in (self, other))
        return mine == theirs

    def scores(self) -> list:
        """Average times variation of each entry, an array a variable."""
        return [
            ops.convert_to_numpy(a) * ops.convert_to_numpy(v)
            for a, v in zip(self._average, self._variation)
        ]

    def result(self):
        return {}

    def reset_state(self):
        """Nothing: the averages go on over epochs."""
