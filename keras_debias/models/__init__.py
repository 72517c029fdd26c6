"""Models that a pretrained one is turned into."""

from keras_debias.models.label_word_classifier import LabelWordClassifier
from keras_debias.models.prompt_template import TEMPLATES
from keras_debias.models.prompt_template import PromptTemplate

__all__ = ["TEMPLATES", "LabelWordClassifier", "PromptTemplate"]
