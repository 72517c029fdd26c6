"""Dropout on torch with masks that are drawn elsewhere."""

import contextlib
import functools
from collections.abc import Callable

import keras


def _is_seeded(seed) -> bool:
    """Whether the `seed` of a dropout was given.

    `_initial_seed`: every generator has a state, given or not.
    """
    return seed is not None and not (
        isinstance(seed, keras.random.SeedGenerator)
        and seed._initial_seed is None
    )


@contextlib.contextmanager
def seeded_dropout(mask_of: Callable):
    """A context in which seeded dropout of torch takes its masks elsewhere.

    `dropout`, `torch_seed_generator`: Keras reads the seed in Python, which no
    graph can hold.

    Args:
        mask_of: function that returns a mask, bool. It gets a function
            without arguments that draws the mask as Keras does.
    """
    import torch
    from keras.src.backend.torch import random

    plain = random.dropout

    def draw(shape, keep, device, seed):
        kept = torch.full(shape, keep, device=device)
        generator = random.torch_seed_generator(seed)
        return torch.bernoulli(kept, generator=generator).bool()

    def dropout(inputs, rate, noise_shape=None, seed=None):
        drawn = _is_seeded(seed) or noise_shape is not None
        if rate in (0.0, 1.0) or not drawn:
            return plain(inputs, rate, noise_shape, seed)
        shape = inputs.shape
        if noise_shape is not None:
            sizes = zip(noise_shape, inputs.shape)
            shape = [size if n is None else n for n, size in sizes]
        keep = 1.0 - rate
        where = tuple(shape), keep, inputs.device, seed
        mask = mask_of(functools.partial(draw, *where))
        zeros = torch.zeros_like(inputs)
        return torch.where(mask.expand(inputs.shape), inputs / keep, zeros)

    random.dropout = dropout
    try:
        yield
    finally:
        random.dropout = plain
