"""Fine-tune Keras models so that they do not learn shortcuts, and show it."""

from keras_debias import _backend
from keras_debias.cli import start

start.begin()  # where this process is the command: answers `--help` at once
_backend.set_backend()  # before anything below imports Keras

from keras_debias import adapters
from keras_debias import analysis
from keras_debias import auditing
from keras_debias import callbacks
from keras_debias import comparison
from keras_debias import constraints
from keras_debias import data
from keras_debias import evaluation
from keras_debias import features
from keras_debias import layers
from keras_debias import losses
from keras_debias import metrics
from keras_debias import models
from keras_debias import optimizers
from keras_debias import presets
from keras_debias import projections
from keras_debias import recipes
from keras_debias import regularizers
from keras_debias import testing
from keras_debias.auditing import audit
from keras_debias.comparison import compare
from keras_debias.directions import Directions
from keras_debias.evaluation import evaluate
from keras_debias.recipes import recommended
from keras_debias.recipes.grasp import grasp
from keras_debias.training import DebiasedModel
from keras_debias.training import balance_regularizers
from keras_debias.version import __version__

__all__ = [
    "DebiasedModel",
    "Directions",
    "__version__",
    "adapters",
    "analysis",
    "audit",
    "auditing",
    "balance_regularizers",
    "callbacks",
    "compare",
    "comparison",
    "constraints",
    "data",
    "evaluate",
    "evaluation",
    "features",
    "grasp",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "presets",
    "projections",
    "recipes",
    "recommended",
    "regularizers",
    "testing",
]
