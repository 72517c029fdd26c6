"""Models that a pretrained one is turned into."""

from keras_debias.models.label_word_classifier import LabelWordClassifier
from keras_debias.models.prompt_template import PromptTemplate
from keras_debias.models.templates import LABELS
from keras_debias.models.templates import TEMPLATES

__all__ = ["LABELS", "TEMPLATES", "LabelWordClassifier", "PromptTemplate"]
