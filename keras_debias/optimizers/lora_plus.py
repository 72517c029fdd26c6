import functools

import keras

from keras_debias import _keras_internals
from keras_debias.utils.numbers import is_number

# What learns faster: `B` of LoRA and of what starts otherwise.
_FASTER = "lora_b"


class _LoRAPlus(_keras_internals.TwoRates):
    """Mixed into the class of an optimizer: `B` learns at a multiple."""

    def is_faster(self, variable):
        return variable.name == _FASTER

    def build(self, variables):
        if not any(self.is_faster(variable) for variable in variables):
            raise ValueError(
                "Expected a model in which `B` of a low-rank adapter trains. "
                f"Received: {len(variables)} variables, none of them named "
                f"{_FASTER!r}. Apply an adapter such as `LoRA` first, or use "
                "the optimizer without `lora_plus`."
            )
        super().build(variables)

    def get_config(self):
        plain = type(self).original_class
        inner = _from_config(plain, super().get_config())
        return {
            "optimizer": keras.optimizers.serialize(inner),
            "ratio": self.ratio,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizer = keras.optimizers.deserialize(
            config["optimizer"], custom_objects
        )
        return lora_plus(optimizer, config["ratio"])


_register = keras.saving.register_keras_serializable(
    package="keras_debias", name="LoRAPlus"
)
# Found by name before any optimizer was made.
_register(_LoRAPlus)


@functools.cache
def _class_of(plain):
    return _register(
        type("LoRAPlus", (_LoRAPlus, plain), {"original_class": plain})
    )


def _from_config(optimizer_class, config):
    """An optimizer of a class from what an optimizer of it was given."""
    return keras.optimizers.Optimizer.from_config.__func__(
        optimizer_class, dict(config)
    )


def lora_plus(
    optimizer: keras.optimizers.Optimizer, ratio: float = 16
) -> keras.optimizers.Optimizer:
    """An optimizer by which `B` of low-rank adapters learns faster than `A`.

    The steps of `B` are those at `ratio` times the learning rate, its
    decoupled weight decay included; all else keeps the learning rate. With
    `A` of random numbers and `B` of zeros, both learn features in wide
    networks only if `B` learns faster. Learning rate schedules, clipping of
    gradients, averages of weights and loss scaling work as they do without.

    A learning rate to start from is half of that of `LoRA`: `1e-4` on
    language models, `5e-4` on small encoders.

    Args:
        optimizer: a Keras optimizer that has not been used yet. A new one of
            its kind is made of its settings; it is left as it is.
        ratio: float above zero. Defaults to `16`.

    Returns:
        A Keras optimizer.

    Raises:
        TypeError: If `optimizer` is not an optimizer.
        ValueError: If it has been used, wraps other optimizers or keeps a
            state beside that of each weight, or `ratio` is out of range.
            When it first sees a model, if no `B` trains in it.

    Example:

    >>> optimizer = lora_plus(keras.optimizers.AdamW(1e-4), ratio=16)
    >>> optimizer.ratio
    16

    Reference:
        [Hayou et al., 2024](https://arxiv.org/abs/2402.12354). The ratio of
        2^4 is the paper's choice for tasks that the model has to learn.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "Expected `optimizer` to be a Keras optimizer such as "
            f"`keras.optimizers.AdamW(1e-4)`. Received: "
            f"optimizer={optimizer!r}"
        )
    if not (is_number(ratio) and ratio > 0):
        raise ValueError(
            "Expected `ratio` to be a finite number above zero. Received: "
            f"ratio={ratio!r}"
        )
    if isinstance(optimizer, _LoRAPlus):
        raise ValueError(
            "Expected an optimizer with one learning rate. Received one that "
            f"`lora_plus` made, with ratio={optimizer.ratio}. Pass the "
            "optimizer that it was made of."
        )
    if not _keras_internals.updates_weights_alone(optimizer):
        raise ValueError(
            "Expected an optimizer that updates each weight by itself. "
            f"Received: `{type(optimizer).__name__}`, which wraps others or "
            "has a state that each step moves on. Use `Adam`, `AdamW` or "
            "`SGD`; `compile` adds loss scaling itself."
        )
    if optimizer.built:
        raise ValueError(
            "Expected an optimizer that has not been used. Received: one of "
            f"{int(optimizer.iterations)} updates over other variables. Make "
            "a new one."
        )
    plain: type = type(optimizer)
    made = _from_config(_class_of(plain), optimizer.get_config())
    made.ratio = ratio
    return _keras_internals.keep_exclusions(made, optimizer)
