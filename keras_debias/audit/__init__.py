"""Audit: what predicts the label of a data set, before any training.

`kd.audit` is the function `audit`; the classes it returns are here.
"""

from keras_debias.audit.advice import Advice
from keras_debias.audit.audit_report import AuditReport
from keras_debias.audit.audit_split import audit
from keras_debias.audit.feature import Feature
from keras_debias.audit.finding import Finding
from keras_debias.audit.partial_input_probe import PartialInputProbe

__all__ = [
    "Advice",
    "AuditReport",
    "Feature",
    "Finding",
    "PartialInputProbe",
    "audit",
]
