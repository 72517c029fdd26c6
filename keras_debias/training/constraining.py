"""The constraints of a `Subspace` on the weights of a network."""

from keras_debias.adapters.constrain import constrain
from keras_debias.adapters.constrain import release
from keras_debias.constraints import OrthogonalUpdate
from keras_debias.projections.subspace import Subspace


def bind_subspace(network, projections) -> list[int] | None:
    """Constrains a network; returns the ids of what trains, if it does.

    Without a `Subspace` among the projections, takes away the constraints
    that another model around the network may have left.
    """
    subspaces = [p for p in projections if isinstance(p, Subspace)]
    if len(subspaces) > 1:
        raise ValueError(
            f"Expected at most one `Subspace`. Received: {len(subspaces)}. "
            "Put all directions into one."
        )
    if not subspaces:
        release(network)
        return None
    constrain(network, subspaces[0].directions)
    return [id(v) for v in network.trainable_variables]


def kept_components(network) -> dict[str, OrthogonalUpdate]:
    """Constraints of whole kernels, which keep a part of the start."""
    found = [
        v.constraint
        for v in network.variables
        if isinstance(v.constraint, OrthogonalUpdate)
        and v.constraint.component is not None
    ]
    return {f"constraint_{i}": c for i, c in enumerate(found)}
