import re

import keras
import numpy as np

from keras_debias import _keras_internals
from keras_debias.adapters.adapter import adapters_of
from keras_debias.adapters.adapter import add_adapter
from keras_debias.adapters.adapter import as_array
from keras_debias.adapters.adapter import drop_starting_values
from keras_debias.adapters.adapter import initial_value
from keras_debias.adapters.adapter import remove_adapter
from keras_debias.adapters.adapter import train_base
from keras_debias.adapters.attention import is_dense
from keras_debias.adapters.blocks import block_of
from keras_debias.adapters.blocks import blocks
from keras_debias.adapters.constrain import kernel_change
from keras_debias.adapters.constrain import matrix_of
from keras_debias.adapters.constrain import require_clean
from keras_debias.adapters.kernel_adapter import KernelAdapter
from keras_debias.adapters.selection import layer_paths
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.layers.adapted_layer import stored_bias
from keras_debias.layers.block_update import plain_block_class
from keras_debias.layers.refined_block import refined_class
from keras_debias.linalg import kernel_view
from keras_debias.utils.layer_roles import BLOCK
from keras_debias.utils.numbers import require_flags

# KerasHub's blocks that can take a constant added to their output: into the
# feed-forward bias, or into the normalization after it.
_NORMALIZED_AFTER = ("DisentangledAttentionEncoder",)
_NORMALIZED_BEFORE = ("ViTEncoderBlock",)
_NORMALIZED_EITHER = ("TransformerDecoder", "TransformerEncoder")


@keras.saving.register_keras_serializable(package="keras_debias")
class TargetLayer(KernelAdapter):
    """Trains some kernels of one transformer block, and refines its input.

    The kernels train in place, with their biases frozen; `refine` adds a
    vector of zeros to the hidden states that enter the block and trains it.
    With the defaults that is 1,217,088 weights of SmolLM2-135M, 0.9 %.

    A refine vector can be merged where the block before it has a bias to
    take it: in KerasHub's BERT, RoBERTa, DistilBERT, DeBERTa-v3, GPT-2, OPT
    and ViT, except for the first block. Elsewhere `adapters.merge` refuses;
    `adapters.save` and `DebiasedModel.save` work everywhere.

    When it helps: where only few weights may train. Emotions of tweets by
    label words, SmolLM2, 886 samples: 95 % of LoRA's weighted F1 (60.6 ± 0.7
    against 64.1 ± 0.8) with half of its weights.

    Args:
        layer: int. Which block, counted from zero in the order of the model;
            an encoder's blocks come before its decoder's.
        modules: name or tuple of names. Which kernels train, of
            `"attention_output"`, `"feedforward_output"`, `"query"`, `"key"`,
            `"value"`, `"feedforward_intermediate"` and `"feedforward_gate"`;
            may be empty. Defaults to
            `("attention_output", "feedforward_output")`.
        refine: bool. Whether to train a vector on the input of the block.
            Defaults to `True`.

    Raises:
        ValueError: If a module is not one of the above, nothing would train,
            or, when applied, the model has no such block or module.
        TypeError: If `layer` is not an int.

    Example:

    ```python
    kd.adapters.apply(causal_lm, kd.adapters.TargetLayer(15))
    ```

    Reference:
        Bias-aware PEFT, section 4.2. The paper does not say where the vector
        starts; at zero, applying it changes nothing.
    """

    def __init__(
        self,
        layer,
        modules=("attention_output", "feedforward_output"),
        refine=True,
    ):
        super().__init__(targets=None)
        if not isinstance(layer, int) or isinstance(layer, bool):
            raise TypeError(
                "Expected `layer` to be an int, the number of a block. "
                f"Received: layer={layer!r}"
            )
        require_flags(refine=refine)
        if not isinstance(modules, (str, list, tuple)):
            raise TypeError(
                f"Expected `modules` to be names among {list(BLOCK)}. "
                f"Received: modules={modules!r}"
            )
        modules = (modules,) if isinstance(modules, str) else tuple(modules)
        unknown = [name for name in modules if name not in BLOCK]
        if unknown:
            raise ValueError(
                f"Expected `modules` to be names among {list(BLOCK)}. "
                f"Received: modules={modules!r}, with {unknown} unknown."
            )
        if not modules and not refine:
            raise ValueError(
                "Expected something to train. Received: modules=() and "
                "refine=False"
            )
        self.layer = layer
        self.modules = modules
        self.refine = refine

    def find(self, model, training):
        if self.targets is not None:
            return super().find(model, training)
        found = blocks(model)
        if not 0 <= self.layer < len(found):
            raise ValueError(
                f"Expected `layer` from 0 to {len(found) - 1}: the model "
                f"{model.name!r} has {len(found)} blocks. "
                f"Received: layer={self.layer}"
            )
        block = found[self.layer]
        paths = {id(layer): path for path, layer in layer_paths(model).items()}
        missing = [m for m in self.modules if m not in block.modules]
        if missing:
            raise ValueError(
                "Expected `modules` that the block has. Received: "
                f"{missing}; '{paths[id(block.layer)]}' has "
                f"{list(block.modules)}."
            )
        chosen = [block.layer] if self.refine else []
        for name in self.modules:
            chosen += block.modules[name]
        return {paths[id(layer)]: layer for layer in chosen}

    def accepts(self, layer):
        return is_dense(layer) or block_of(layer) is not None

    def exclusive_parts(self, layer):
        return {"kernel"} if is_dense(layer) else {"refine"}

    def check(self, path, layer):
        if is_dense(layer):
            self.check_layer(path, layer)
            # It must have a name of its own among the starting values.
            if layer.quantization_mode is not None or layer.lora_enabled:
                state = layer.quantization_mode or "enable_lora"
                raise ValueError(
                    "Expected a layer in its original form. Received: "
                    f"'{path}', changed by Keras ({state}). Apply the "
                    "adapter to a fresh model."
                )
        others = adapters_of(layer)
        taken = set().union(*(a.exclusive_parts(layer) for a in others))
        if taken & self.exclusive_parts(layer):
            raise ValueError(
                "Expected a block whose weights do not train yet. Received: "
                f"'{path}' with {adapters_of(layer)}. Merge the first one "
                "with `adapters.merge`, or choose another `layer`."
            )

    def attach(self, layer, prepared):
        if is_dense(layer):
            train_base(layer, [layer.kernel])
            add_adapter(layer, self)
            return

        def change():
            layer.add_refine(block_of(layer).width)
            add_adapter(layer, self)

        _keras_internals.swap_class(layer, refined_class(type(layer)), change)

    def kernel_update(self, layer):
        view = kernel_view(layer)
        after, before = (
            matrix_of(view, kernel).astype("float64")
            for kernel in (
                as_array(layer.kernel),
                initial_value(layer, layer.kernel),
            )
        )
        return after - before, None

    def constrain(self, path, layer, vectors, side):
        start = initial_value(layer, layer.kernel)
        constraint = OrthogonalUpdate(vectors, side)
        scale = np.linalg.norm(start)
        require_clean(path, self.kernel_update(layer), constraint, scale)
        return kernel_change(path, layer, vectors, side, start)

    def disabled_values(self, layer):
        if is_dense(layer):
            return [(layer.kernel, initial_value(layer, layer.kernel))]
        return [(layer.refine, np.zeros(layer.refine.shape, "float32"))]

    def state(self, layer):
        if is_dense(layer):
            return {"kernel": layer.kernel}
        return {"refine": layer.refine}

    def state_shapes(self, layer):
        if is_dense(layer):
            return {"kernel": tuple(layer.kernel.shape)}
        return {"refine": (block_of(layer).width,)}

    def base(self, layer):
        if is_dense(layer):
            return {"kernel": initial_value(layer, layer.kernel)}
        # The vector is not a part of any weight of the block.
        return {}

    def check_merge(self, path, layer, layers):
        if is_dense(layer) or not as_array(layer.refine).any():
            return
        if shift_before(path, layers) is None:
            raise ValueError(
                "Expected a bias to merge the refine vector into. Received: "
                f"'{path}', a `{type(layer).__name__}` without a bias right "
                "before it. Keep the adapter (`adapters.save`), or train "
                "with `refine=False`, which merges everywhere."
            )

    def merge(self, path, layer, layers):
        remove_adapter(layer, self)
        if is_dense(layer):
            drop_starting_values(layer, ["kernel"])
            return
        vector = as_array(layer.refine)
        if vector.any():
            shift = shift_before(path, layers)
            shift.assign(as_array(shift) + vector)
        layer.remove_refine()
        layer.__class__ = plain_block_class(layer)

    def get_config(self):
        return {
            "layer": self.layer,
            "modules": list(self.modules),
            "refine": self.refine,
        }


def shift_before(path, layers):
    """The bias that is added to all that enters a block, or `None`."""
    match = re.fullmatch(r"(.*?)(\d+)", path)
    if match is None:
        return None
    before = f"{match.group(1)}{int(match.group(2)) - 1}"
    layer = layers.get(before)
    block = None if layer is None else block_of(layer)
    if block is None:
        return None
    kind = plain_block_class(layer).__name__
    first = kind in _NORMALIZED_BEFORE
    first = first or (kind in _NORMALIZED_EITHER and layer.normalize_first)
    if first:
        return stored_bias(block.modules["feedforward_output"][0])
    if kind in (*_NORMALIZED_AFTER, *_NORMALIZED_EITHER):
        norm = layers.get(f"{before}/feedforward_layer_norm")
        return getattr(norm, "beta", None)
    return None
