"""What must hold of a weight after each update of the optimizer."""

from keras_debias.constraints.orthogonal_update import OrthogonalUpdate

__all__ = ["OrthogonalUpdate"]
