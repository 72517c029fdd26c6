import keras

from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import remove_adapter
from keras_debias.adapters.attention import attentions
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.selection import plain_selector
from keras_debias.adapters.transform_adapter import TransformAdapter
from keras_debias.layers.class_swap import original_class
from keras_debias.layers.transforms import Scaling
from keras_debias.linalg import kernel_view


@keras.saving.register_keras_serializable(package="keras_debias")
class IA3(TransformAdapter):
    """Scales keys, values and feed-forward activations by trained vectors.

    Each number of a key, of a value and of the inner activation of a
    feed-forward layer is multiplied by one weight that starts at one: 13,824
    weights for a BERT encoder of 6 layers of width 384. Biases are scaled
    with the kernels, as in PEFT, so that `adapters.merge` is exact.

    A learning rate to start from is `3e-3`, the paper's.

    Args:
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. The layers whose outputs are scaled; `()` for
            none. Defaults to `None`: the key and value projections of all
            attention layers.
        feedforward: as `targets`. The layers whose inputs are scaled; `()` for
            none. Defaults to `None`: the last projection of the feed-forward
            network of each transformer block, where the model has such blocks.

    Raises:
        ValueError: If both are `()`; when applied, if a selector matches no
            layer, or a layer is named in both.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.IA3())
    ```

    Reference:
        [Liu et al., 2022](https://arxiv.org/abs/2205.05638). PEFT's default
        for BERT scales the inputs of the attention's output projection as
        well, because it has the same name; the paper and this class do not.
    """

    def __init__(self, targets=None, feedforward=None):
        super().__init__(targets)
        if isinstance(feedforward, (list, tuple)):
            feedforward = tuple(feedforward)
        if targets == () and feedforward == ():
            raise ValueError(
                "Expected something to scale. Received: targets=() and "
                "feedforward=()"
            )
        self.feedforward = feedforward

    def resolve(self, model, training):
        """One adapter for outputs, and one for inputs, by path.

        Raises:
            ValueError: If a layer is named in `targets` and in `feedforward`,
                or, without `targets`, keys and values have no projections of
                their own.
        """
        outputs = self._outputs(model, training)
        inputs = self._inputs(model, training)
        both = sorted(set(outputs) & set(inputs))
        if both:
            raise ValueError(
                "Expected layers in `targets` or in `feedforward`. Received: "
                f"{both[:3]} in both. Name other `targets`."
            )
        parts = []
        if outputs:
            parts.append(IA3(targets=tuple(outputs), feedforward=()))
        if inputs:
            parts.append(IA3(targets=(), feedforward=tuple(inputs)))
        return parts

    def _outputs(self, model, training):
        if self.targets == ():
            return {}
        if self.targets is not None:
            return super().find(model, training)
        found = [p for a in attentions(model) for p in (a.key, a.value)]
        fused = sorted(
            {each.path for each in found if each.qkv_slot is not None}
        )
        if fused:
            raise ValueError(
                "Expected keys and values in projections of their own. "
                f"Received: {fused[:3]}, which also compute queries. Name "
                "layers in `targets`; then all their outputs are scaled."
            )
        return {each.path: each.layer for each in found}

    def _inputs(self, model, training):
        if self.feedforward == ():
            return {}
        if self.feedforward is not None:
            return self.chosen(model, self.feedforward, "feedforward", training)
        paths = {id(layer): path for path, layer in layer_paths(model).items()}
        found = [
            layer
            for block in blocks(model, required=False)
            for layer in block.modules["feedforward_output"]
        ]
        return {paths[id(layer)]: layer for layer in found}

    def find(self, model, training):
        found = {
            **self._outputs(model, training),
            **self._inputs(model, training),
        }
        return {path: x for path, x in found.items() if is_dense(x)}

    def transform(self, layer):
        side = "inputs" if self.feedforward else "outputs"
        shape = kernel_view(layer).trailing_shape(side)
        return Scaling(side, shape or ())

    def check_merge(self, path, layer, layers):
        layer.check_merge()

    def merge(self, path, layer, layers):
        kernel, bias = layer.merged_kernel(), layer.merged_bias()
        layer.kernel.assign(kernel)
        if layer.base_bias is not None:
            layer.base_bias.assign(bias)
        layer.remove_transform()
        remove_adapter(layer, self)
        layer.__class__ = original_class(layer)

    def get_config(self):
        return {
            **Adapter.get_config(self),
            "feedforward": plain_selector(self.feedforward),
        }
