"""Projections: how gradients of several objectives become one update."""

from keras_debias.projections.edge import EDGE
from keras_debias.projections.orthogonal import Orthogonal
from keras_debias.projections.projection import Projection
from keras_debias.projections.published_edge import PublishedEDGE
from keras_debias.projections.subspace import Subspace
from keras_debias.projections.subtraction import Subtraction
from keras_debias.projections.task_only import TaskOnly

__all__ = [
    "EDGE",
    "Orthogonal",
    "Projection",
    "PublishedEDGE",
    "Subspace",
    "Subtraction",
    "TaskOnly",
]
