"""`Dense` and `EinsumDense` with a low-rank update."""

import keras
from keras import ops

from keras_debias.layers.low_rank import LowRankUpdate


class LowRankDense(LowRankUpdate, keras.layers.Dense):
    """A `Dense` layer with a low-rank update."""

    def _product(self, inputs):
        return ops.matmul(inputs, self.kernel)


class LowRankEinsumDense(LowRankUpdate, keras.layers.EinsumDense):
    """An `EinsumDense` layer with a low-rank update."""

    def _product(self, inputs):
        return ops.einsum(self.equation, inputs, self.kernel)


LOW_RANK_CLASSES = {
    keras.layers.Dense: LowRankDense,
    keras.layers.EinsumDense: LowRankEinsumDense,
}
