"""Analysis of models: which of their parts changed, or matter."""

from keras_debias.analysis.ablation import ablate
from keras_debias.analysis.ablation import ablated
from keras_debias.analysis.bias_accumulation import BiasAccumulation
from keras_debias.analysis.bias_accumulation import bias_accumulation
from keras_debias.analysis.bias_neurons import BiasNeuron
from keras_debias.analysis.bias_neurons import find_bias_neurons
from keras_debias.analysis.bias_neurons import prune_neurons
from keras_debias.analysis.bias_term_measure import BiasTermMeasure
from keras_debias.analysis.bias_term_ranking import BiasTermRanking
from keras_debias.analysis.change_measure import ChangeMeasure
from keras_debias.analysis.find_target_layer import TargetLayerSearch
from keras_debias.analysis.find_target_layer import find_target_layer
from keras_debias.analysis.fisher_information import FisherInformation
from keras_debias.analysis.kernel_updates import kernels
from keras_debias.analysis.latent_factors import latent_factors
from keras_debias.analysis.magnitude_change import MagnitudeChange
from keras_debias.analysis.projection_change import ProjectionChange
from keras_debias.analysis.rank_bias_terms import rank_bias_terms
from keras_debias.analysis.truncate_update import truncate_update
from keras_debias.analysis.update_spectrum import UpdateSpectrum

__all__ = [
    "BiasAccumulation",
    "BiasNeuron",
    "BiasTermMeasure",
    "BiasTermRanking",
    "ChangeMeasure",
    "FisherInformation",
    "MagnitudeChange",
    "ProjectionChange",
    "TargetLayerSearch",
    "UpdateSpectrum",
    "ablate",
    "ablated",
    "bias_accumulation",
    "find_bias_neurons",
    "find_target_layer",
    "kernels",
    "latent_factors",
    "prune_neurons",
    "rank_bias_terms",
    "truncate_update",
]
