"""Looks into models: which of their parts changed, or matter."""

from keras_debias.analysis.bias_term_measure import BiasTermMeasure
from keras_debias.analysis.bias_term_ranking import BiasTermRanking
from keras_debias.analysis.fisher_information import FisherInformation
from keras_debias.analysis.magnitude_change import MagnitudeChange
from keras_debias.analysis.projection_change import ProjectionChange
from keras_debias.analysis.rank_bias_terms import rank_bias_terms

__all__ = [
    "BiasTermMeasure",
    "BiasTermRanking",
    "FisherInformation",
    "MagnitudeChange",
    "ProjectionChange",
    "rank_bias_terms",
]
