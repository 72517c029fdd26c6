from keras_debias.audit import audit
from keras_debias.data.split import Split
from keras_debias.recipes.audit_cue import AuditCue
from keras_debias.recipes.balanced_sampling import BalancedSampling
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.recipe import Recipe


def recommended(train: Split) -> Recipe:
    """The method to try first on data without group labels.

    `kd.audit` looks for the feature that goes with a label most strongly. If
    it finds one, the method draws rows equally often from all groups of
    label x that feature; if not, it is plain fine-tuning.

    What this rests on is thin. Two shortcuts were planted, a token in SNLI
    (in 4,000 rows, strength 0.90) and the colour of digits (0.95 and 0.99).
    The groups found are the planted ones exactly in SNLI, for three draws of
    the rows, so there the method is the one with true groups; on the digits
    the adjusted Rand index with the true groups is 0.98 (of the rare groups,
    some are padded with rows of a neighbouring hue). What that is worth in
    accuracy is in `examples/compare_nli.py` and
    `examples/compare_colored_digits.py`, as far as their runs go. Nothing
    here rests on natural shortcuts, of which there may be many weak ones, or
    none that a single feature shows. So compare it with plain fine-tuning on
    your own data, with `kd.compare`, and look at what it took for the
    shortcut.

    Args:
        train: `kd.data.Split` of texts or pictures with one class a row. Its
            groups, if any, are not looked at.

    Returns:
        A recipe, for `kd.compare` or `fit`.

    Raises:
        TypeError: If the inputs are neither texts nor pictures.
        ValueError: See `kd.audit`.

    Example:

    ```python
    method = kd.recommended(train)
    trainer = kd.recipes.Trainer(build, kd.recipes.Budget(epochs=2))
    model = method.fit(trainer, train)
    print(trainer.notes["cue"])  # what was taken for the shortcut
    ```
    """
    if not isinstance(train, Split):
        raise TypeError(
            "Expected `train` to be a `kd.data.Split`. Received: "
            f"{type(train).__name__}"
        )
    groups = AuditCue()
    report = audit(
        train,
        min_count=groups.min_count,
        min_difference=groups.min_difference,
        false_discovery_rate=groups.false_discovery_rate,
        folds=0,
    )
    if not report.findings:
        return FineTuning()
    return BalancedSampling(groups=groups)
