import keras

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import BIAS_CLAIMS
from keras_debias.adapters.adapter import Adapter
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.adapter import frozen_kernel
from keras_debias.adapters.adapter import initial_value
from keras_debias.adapters.adapter import train_base
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.projection_bias import ALREADY_TRAINED_HINT
from keras_debias.adapters.projection_bias import ProjectionBias
from keras_debias.adapters.selection import layer_paths
from keras_debias.layers.bias_update import BiasSlot
from keras_debias.layers.bias_update import bias_shape
from keras_debias.layers.class_swap import original_class
from keras_debias.utils.numbers import require_flags

# The names Keras gives to additive terms: of kernels, of normalizations.
TERMS = ("bias", "beta")


def bias_terms(layer: keras.Layer) -> list[keras.Variable]:
    """The bias terms of a layer's own weights."""
    return [
        v
        for v in _keras_internals.own_trainable_variables(layer)
        if v.name in TERMS
    ]


@keras.saving.register_keras_serializable(package="keras_debias")
class AllBiases(ProjectionBias):
    """Trains every bias term: BitFit.

    These are the biases of dense layers, normalizations and all other layers
    of the backbone (without a backbone: of the whole model, except layers that
    train as a whole). Dense layers without a bias get one of zeros, unless
    `inject` is `False`.

    Args:
        inject: bool. Whether `Dense` and `EinsumDense` layers without a bias
            get one. Defaults to `True`.
        targets: name, glob, several of them, or a function of a layer that
            returns a bool. Defaults to `None`: all layers.

    Raises:
        ValueError: When applied, if there is nothing to train.

    Example:

    ```python
    kd.adapters.apply(classifier, kd.adapters.AllBiases())
    ```

    Reference:
        [Ben Zaken et al., 2022](https://arxiv.org/abs/2106.10199), the "all
        biases" of BEFT.
    """

    role = "injected"

    def __init__(self, inject=True, targets=None):
        require_flags(inject=inject)
        super().__init__(targets=targets)
        self.inject = inject

    def find(self, model, training):
        if self.targets is not None:
            return self.chosen(model, self.targets, "targets", training)
        found = {
            path: layer
            for path, layer in layer_paths(model).items()
            if self.accepts(layer)
            and not any(
                id(v) in training
                for v in _keras_internals.own_trainable_variables(layer)
            )
        }
        if not found:
            raise ValueError(
                "Expected a model with bias terms that do not train yet. "
                f"Received: model={model.name!r}, which has none. Allow "
                "`inject=True` for one with dense layers."
            )
        return found

    def accepts(self, layer):
        if bias_terms(layer):
            return True
        return self.inject and original_class(layer) is not None

    def exclusive_parts(self, layer):
        return set(BIAS_CLAIMS)

    def slot(self, layer):
        return BiasSlot(bias_shape(layer))

    def trains_own_bias(self, layer):
        return bool(bias_terms(layer))

    def check(self, path, layer):
        self.check_free(path, layer, ALREADY_TRAINED_HINT)

    def attach(self, layer, prepared):
        if prepared is not None:
            super().attach(layer, prepared)
            return
        train_base(layer, bias_terms(layer))
        add_adapter(layer, self)

    def state(self, layer):
        if self.trains_own_bias(layer):
            return {v.name: v for v in bias_terms(layer)}
        return super().state(layer)

    def state_shapes(self, layer):
        if self.trains_own_bias(layer):
            return {v.name: tuple(v.shape) for v in bias_terms(layer)}
        return super().state_shapes(layer)

    def base(self, layer):
        values = {v.name: initial_value(layer, v) for v in bias_terms(layer)}
        if is_dense(layer):
            values.update(frozen_kernel(layer))
        return values

    def check_merge(self, path, layer, layers):
        if not self.trains_own_bias(layer):
            super().check_merge(path, layer, {})

    def __repr__(self):
        return Adapter.__repr__(self)

    def get_config(self):
        config = super().get_config()
        del config["form"]
        return {"inject": self.inject, **config}
