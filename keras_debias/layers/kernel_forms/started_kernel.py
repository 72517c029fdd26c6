import numpy as np
from keras import ops

from keras_debias import _keras_internals
from keras_debias.layers.kernel_forms.kernel_form import Weight
from keras_debias.layers.kernel_forms.lora_kernel import LoRAKernel


class StartedKernel(LoRAKernel):
    """`A` and `B` start from given factors, whose product is subtracted.

    The kernel is never written to, so that disabling is exact to the bit.
    """

    has_start = True

    def weights(self, inputs, outputs):
        found = super().weights(inputs, outputs)
        for name in ("lora_a", "lora_b"):
            found[f"{name}_start"] = Weight(found[name].shape, False)
        return found

    def initial(self, layer, start):
        names = ("lora_a", "lora_b")
        found = dict(zip(names, start))
        return {**found, **{f"{name}_start": found[name] for name in names}}

    def start_factors(self, values):
        return values["lora_a_start"], values["lora_b_start"]

    def update_factors(self, values):
        """Factors of `A B - A0 B0` of twice the rank.

        Computed as `(A - A0) B + A0 (B - B0)`, which is exactly zero at the
        start and never a difference of two large products. Always in float32,
        because the changes are small compared to the factors.
        """
        with _keras_internals.without_autocast():
            a, b = values["lora_a"], values["lora_b"]
            a_start, b_start = self.start_factors(values)
            return (
                ops.concatenate([ops.subtract(a, a_start), a_start], axis=1),
                ops.concatenate([b, ops.subtract(b, b_start)], axis=0),
            )

    def names_of(self, side):
        (name,) = super().names_of(side)
        return [name, f"{name}_start"]

    def reset(self, layer):
        # Copies: two variables must not share a buffer on jax.
        return {
            name: np.array(
                ops.convert_to_numpy(getattr(layer, f"{name}_start"))
            )
            for name in ("lora_a", "lora_b")
        }
