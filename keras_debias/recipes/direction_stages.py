"""Stages of methods that read directions from a fine-tuned model."""

from typing import Any

from keras_debias.adapters.apply import adapted_layers
from keras_debias.analysis.ablation import ablate
from keras_debias.analysis.kernel_updates import kernels
from keras_debias.analysis.latent_factors import latent_factors
from keras_debias.analysis.update_spectrum import UpdateSpectrum
from keras_debias.directions import SIDES
from keras_debias.projections import Subspace
from keras_debias.utils.numbers import require_count


def check_choice(value, name: str, choices) -> None:
    """Raises unless a setting is one of several strings."""
    if value not in choices:
        raise ValueError(
            f"Expected `{name}` to be one of {tuple(choices)}. "
            f"Received: {name}={value!r}"
        )


def check_direction_settings(recipe) -> None:
    """Checks `k`, `side` and `scope`; makes tuples of layer names."""
    require_count(recipe.k, "k")
    check_choice(recipe.side, "side", SIDES)
    check_choice(recipe.scope, "scope", ("shared", "layer"))
    for name in ("readers", "writers"):
        value = getattr(recipe, name)
        value = (value,) if isinstance(value, str) else tuple(value)
        object.__setattr__(recipe, name, value)


def read_directions(recipe, model, base: dict | None) -> UpdateSpectrum:
    """The directions of a fine-tuned model, by the recipe's settings.

    Args:
        recipe: has `k`, `side`, `scope`, `readers` and `writers`.
        model: the fine-tuned model.
        base: the kernels it started from; see `fine_tune`.
    """
    return latent_factors(
        model,
        recipe.k,
        base=base,
        side=recipe.side,
        scope=recipe.scope,
        readers=recipe.readers,
        writers=recipe.writers,
    )


def fine_tune(
    trainer,
    train,
    share: float | None,
    *,
    adapters=None,
    projection=None,
    regularizers=None,
    directions: Any = None,
    ablated: bool = False,
) -> tuple[Any, dict | None]:
    """Trains a new network on a share of the budget.

    Args:
        trainer: `recipes.Trainer`.
        train: `kd.data.Split`.
        share: float in (0, 1), or `None`: all that is left, for the model
            that is returned.
        adapters, projection, regularizers: as for `recipes.FineTuning`.
        directions: `Directions` that every update stays orthogonal to.
            Defaults to `None`.
        ablated: bool. Whether `directions` are removed from the network first.
            Defaults to `False`.

    Returns:
        The model, and the kernels it started from; `None` in their place
        for a network with adapters.
    """
    updates = trainer.claim_updates(share, train)
    network = trainer.network(updates, adapters)
    base = None if adapted_layers(network) else kernels(network)
    if ablated:
        ablate(network, directions)
    projections = [] if projection is None else projection
    if not isinstance(projections, (list, tuple)):
        projections = [projections]
    if directions is not None:
        projections = [*projections, Subspace(directions)]
    model = trainer.wrap(
        network, projection=projections or None, regularizers=regularizers
    )
    model = trainer.advance(model, train, updates, is_final=share is None)
    return model, base
