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

    What this rests on: two planted shortcuts, a token in SNLI and the colour
    of digits (`examples/compare_nli.py`, `compare_colored_digits.py`). There
    the audit finds the planted feature, the groups are those that were
    planted (all of them in SNLI), and so the results are those of true
    groups, while methods that guess groups from a model's mistakes do worse.
    It does not rest on natural shortcuts, of which there may be many weak
    ones at once, or none that a single feature shows. So compare it with
    plain fine-tuning on your own data, with `kd.compare`.

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
