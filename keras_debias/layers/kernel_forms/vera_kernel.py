import weakref

import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms.kernel_form import KernelForm
from keras_debias.layers.kernel_forms.kernel_form import Weight
from keras_debias.linalg import kernel_view

# Random factors in use, so that layers of the same size share one tensor.
_shared = weakref.WeakValueDictionary()


class VeRAKernel(KernelForm):
    """Frozen random factors, and two vectors that scale them.

    `A` is a random factor times `diag(d)`, `B` another one times `diag(b)`.
    `d` starts at a constant and `b` at zero. The random factors come from the
    seed alone. Their entries are drawn input by input, or output by output. So
    the factors of a smaller layer are a part of those of a larger layer, up to
    their scale.

    Args:
        rank: int. Size of `d`.
        initial_scale: float. Start of `d`.
        seed: int. Seed of the random factors.
    """

    def __init__(self, rank, initial_scale, seed):
        super().__init__(rank)
        self.initial_scale = initial_scale
        self.seed = seed

    def weights(self, inputs, outputs):
        return {
            "vera_lambda_d": Weight((self.rank,)),
            "vera_lambda_b": Weight((outputs,)),
        }

    def initial(self, layer, start):
        return {
            "vera_lambda_d": np.full(self.rank, self.initial_scale, "float32"),
            **self.reset(layer),
        }

    def constants(self, inputs, outputs):
        # Uniform with the variance of Kaiming's start.
        return {
            "vera_a": self._shared_factor(inputs, inputs, transpose=False),
            "vera_b": self._shared_factor(outputs, self.rank, transpose=True),
        }

    def _shared_factor(self, size, fan_in, transpose):
        key = (self.seed, self.rank, size, transpose)
        found = _shared.get(key)
        if found is None:
            # Streams of `RandomState` never change, those of newer generators
            # may.
            generator = np.random.RandomState([self.seed, int(transpose)])
            limit = (6 / fan_in) ** 0.5
            factor = generator.uniform(-limit, limit, (size, self.rank))
            factor = factor.T if transpose else factor
            found = ops.convert_to_tensor(
                np.ascontiguousarray(factor, "float32")
            )
            _shared[key] = found
        return found

    def factors(self, values):
        with _keras_internals.without_autocast():
            return (
                values["vera_a"] * values["vera_lambda_d"],
                values["vera_b"] * values["vera_lambda_b"],
            )

    def reset(self, layer):
        outputs = kernel_view(layer).outputs
        return {"vera_lambda_b": np.zeros(outputs, "float32")}
