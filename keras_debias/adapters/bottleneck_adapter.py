import keras

from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.checks import refuse_merge
from keras_debias.adapters.selection import layer_paths
from keras_debias.adapters.transform_adapter import TransformAdapter
from keras_debias.layers.transforms import Bottleneck


class BottleneckAdapter(TransformAdapter):
    """Base class of adapters that put a narrow perceptron after layers.

    A subclass names these layers.
    """

    # Names of the layers within a block, as in `kd.adapters.TargetLayer`.
    modules: tuple[str, ...] = ()

    def __init__(self, width, activation, targets):
        super().__init__(targets)
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ValueError(
                "Expected `width` to be a positive integer. Received: "
                f"width={width!r}"
            )
        self.width = width
        try:
            self.activation = keras.activations.get(activation)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Expected `activation` to be the name of a function in "
                "`keras.activations`, or a function. Received: "
                f"activation={activation!r}"
            ) from error

    def find(self, model, training):
        if self.targets is not None:
            return super().find(model, training)
        paths = {id(layer): path for path, layer in layer_paths(model).items()}
        names = [
            paths[id(layer)]
            for block in blocks(model)
            for name in self.modules
            for layer in block.modules[name]
        ]
        return self.chosen(model, names, "targets", training)

    def transform(self, layer):
        return Bottleneck(self.width, self.activation)

    def check_merge(self, path, layer, layers):
        refuse_merge(f"'{path}' with {self!r}, which is an extra layer")

    def merge(self, path, layer, layers):
        self.check_merge(path, layer, layers)

    def get_config(self):
        return {
            "width": self.width,
            "activation": keras.activations.serialize(self.activation),
            **super().get_config(),
        }
