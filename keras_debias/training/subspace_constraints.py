"""The constraints of a `Subspace` on the weights of a network."""

import contextlib
import warnings

from keras_debias.adapters.constrain import constrain
from keras_debias.adapters.constrain import release
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.projections.subspace import Subspace


def constrain_network(network, projections) -> list[int] | None:
    """Constrains a network; returns the ids of trainable weights, or `None`.

    Without a `Subspace` among the projections, removes the constraints that
    another model around the network may have set, with a warning.
    """
    subspaces = [p for p in projections if isinstance(p, Subspace)]
    if len(subspaces) > 1:
        raise ValueError(
            f"Expected at most one `Subspace`. Received: {len(subspaces)}. "
            "Put all directions into one."
        )
    if not subspaces:
        constrained = constraints_of(network)
        if constrained:
            warnings.warn(
                "Expected a network that no `Subspace` constrains. Received: "
                f"{network.name!r}, of which another `DebiasedModel` has "
                f"constrained {len(constrained)} weights. They are free from "
                "now on, and the other one refuses to train further. Pass the "
                "`Subspace` here to keep them.",
                stacklevel=5,
            )
        release(network)
        return None
    constrain(network, subspaces[0].directions)
    return [id(v) for v in network.trainable_variables]


def constraints_of(network) -> list[tuple]:
    """`(variable, constraint)` pairs that a `Subspace` has set."""
    return [
        (v, v.constraint)
        for v in network.variables
        if isinstance(v.constraint, OrthogonalUpdate)
    ]


@contextlib.contextmanager
def unconstrained(network):
    """A context without constraints, to make another `DebiasedModel`."""
    constraints = constraints_of(network)
    for variable, _ in constraints:
        variable.constraint = None
    try:
        yield
    finally:
        for variable, constraint in constraints:
            variable.constraint = constraint


def frozen_components(network) -> dict[str, OrthogonalUpdate]:
    """Constraints of whole kernels, which hold a frozen component."""
    constraints = [
        v.constraint
        for v in network.variables
        if isinstance(v.constraint, OrthogonalUpdate)
        and v.constraint.component is not None
    ]
    return {f"constraint_{i}": c for i, c in enumerate(constraints)}
