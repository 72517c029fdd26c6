from keras_debias.layers.kernel_forms.lora_kernel import LoRAKernel


class LoftQKernel(LoRAKernel):
    """`A` and `B` start from given factors, whose product is an update."""

    def initial(self, layer, start):
        if start is None:
            return super().initial(layer, start)
        return dict(zip(("lora_a", "lora_b"), start))
