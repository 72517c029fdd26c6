"""Optimizers with two learning rates, or with smaller state."""

import abc
from collections.abc import Sequence

import keras


class TwoRates:
    """Mixed into an optimizer class: some weights learn at another rate.

    `_backend_update_step` and `_apply_weight_decay`: each backend has its own
    way of updating many weights at once, all of which call these two.
    """

    # Times the learning rate, for the weights for which `is_faster` holds.
    ratio = 1.0

    def is_faster(self, variable) -> bool:
        """Whether a weight learns at `ratio` times the learning rate."""
        return False

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        pairs = list(zip(grads, trainable_variables))
        for faster in (False, True):
            chosen = [(g, v) for g, v in pairs if self.is_faster(v) == faster]
            if chosen:
                super()._backend_update_step(
                    [g for g, _ in chosen],
                    [v for _, v in chosen],
                    learning_rate * self.ratio if faster else learning_rate,
                )

    def _apply_weight_decay(self, variables):
        decay = self.weight_decay
        if decay is None:
            return
        try:
            for faster in (False, True):
                chosen = [
                    v
                    for v in variables
                    if self.is_faster(v) == faster and self._use_weight_decay(v)
                ]
                self.weight_decay = decay * self.ratio if faster else decay
                if chosen:
                    super()._apply_weight_decay(chosen)
        finally:
            self.weight_decay = decay


class SmallerState(abc.ABC):
    """Mixed into an optimizer class: some state is smaller than its weight.

    `_get_variable_index`, and `_backend_update_step`: on torch some optimizers
    update all weights in one call (`_parallel_update_step`), which expects
    their shapes. `average` and `gradient_accumulator` are what Keras calls
    its own state.
    """

    # By the number of a weight: what makes a gradient small, or `None`.
    small: Sequence = ()

    @abc.abstractmethod
    def state_shape(self, variable) -> tuple[int, ...]:
        """The shape of what the optimizer keeps for a weight."""

    def small_of(self, variable):
        return self.small[self._get_variable_index(variable)]

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ):
        shape = self.state_shape(reference_variable)
        if name in ("average", "gradient_accumulator") or shape == tuple(
            reference_variable.shape
        ):
            return super().add_variable_from_reference(
                reference_variable, name=name, initializer=initializer
            )
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(
            shape=shape,
            initializer=initializer,
            dtype=reference_variable.dtype,
            name=f"{path}_{name or 'var'}",
        )

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if getattr(type(self), "_parallel_update_step", None) is None:
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )
            return
        for gradient, variable in zip(grads, trainable_variables):
            self.update_step(gradient, variable, learning_rate)


def variable_index(optimizer, variable: keras.Variable) -> int:
    """The position of a variable among those an optimizer was built with.

    `_get_variable_index`: an optimizer's `update_step` finds its slots by it.
    """
    return optimizer._get_variable_index(variable)


def updates_weights_alone(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer's updates can be made in parts.

    `_backend_update_step`: `Nadam` moves a product on in it, and a wrapper
    does not use its own.
    """
    own = "keras.src.optimizers."
    base = f"{own}base_optimizer"
    overriding = [
        c
        for c in type(optimizer).__mro__
        if {"_backend_update_step", "apply", "stateless_apply"} & set(vars(c))
        and c.__module__.startswith(own)
        and c.__module__ != base
    ]
    return not overriding


def keep_exclusions(
    made: keras.optimizers.Optimizer, optimizer: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """An optimizer made of another's config, decaying the same weights.

    `_exclude_from_weight_decay`: what `exclude_from_weight_decay` sets is not
    in `get_config`. Either may be in a `LossScaleOptimizer`.
    """
    target = getattr(made, "inner_optimizer", made)
    source = getattr(optimizer, "inner_optimizer", optimizer)
    for end in ("", "_pattern"):
        name = f"_exclude_from_weight_decay{end}"
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    return made
