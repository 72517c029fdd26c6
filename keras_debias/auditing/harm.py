import dataclasses

from keras_debias.utils.short_repr import ShortRepr


@dataclasses.dataclass(frozen=True, repr=False)
class Harm(ShortRepr):
    """How often a model follows a cue where it misleads.

    The rows of a finding's feature that have *another* label than the one it
    goes with are compared with rows of the same class without the feature.
    A cue is harmful if the model predicts the cue's label for the former
    more often than for the latter. A cue that belongs to the task costs no
    such errors, as a good model reads the rest of the input.

    Args:
        n: int, the number of rows with the feature and another label.
        errors: int, how many of them are predicted as the finding's label.
        excess_errors: float, `errors` less what is expected from the rows of
            the same classes without the feature.
        error_rate_with: float, `errors / n`; `None` where `n` is 0.
        error_rate_without: float, the rate of this error among rows without
            the feature, each class weighted by its share of `n`; `None`
            where there are no such rows.
        p_value: float, of the exact one-sided test within classes.
        adjusted_p_value: float, after Benjamini and Hochberg, over all
            findings.
        significant: bool, whether `adjusted_p_value` is at most the false
            discovery rate of the audit.

    Example:

    >>> texts = ["never good"] * 40 + ["never bad"] * 10 + ["always good"] * 50
    >>> labels = ["no"] * 40 + ["yes"] * 50 + ["no"] * 10
    >>> says = ["no" if "never" in text else "yes" for text in texts]
    >>> report = kd.audit(Split(texts, labels), predictions=says, folds=0)
    >>> harm = report.findings[0].harm
    >>> harm.n, harm.errors, harm.significant
    (10, 10, True)
    """

    n: int
    errors: int
    excess_errors: float
    error_rate_with: float | None
    error_rate_without: float | None
    p_value: float
    adjusted_p_value: float
    significant: bool
