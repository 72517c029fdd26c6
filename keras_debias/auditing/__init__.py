"""Audits: which features of a dataset predict its label, without training.

`kd.audit` runs an audit; `kd.auditing` holds the classes of its report.
"""

from keras_debias.auditing.advice import Advice
from keras_debias.auditing.audit import audit
from keras_debias.auditing.audit_report import AuditReport
from keras_debias.auditing.contact_sheet import contact_sheet
from keras_debias.auditing.describe_groups import describe_groups
from keras_debias.auditing.error_slice import ErrorSlice
from keras_debias.auditing.feature import Feature
from keras_debias.auditing.finding import Finding
from keras_debias.auditing.harm import Harm
from keras_debias.auditing.partial_input_probe import PartialInputProbe
from keras_debias.auditing.target_finding import TargetFinding
from keras_debias.auditing.target_report import TargetReport

__all__ = [
    "Advice",
    "AuditReport",
    "ErrorSlice",
    "Feature",
    "Finding",
    "Harm",
    "PartialInputProbe",
    "TargetFinding",
    "TargetReport",
    "audit",
    "contact_sheet",
    "describe_groups",
]
