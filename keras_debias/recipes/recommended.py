import dataclasses
from collections.abc import Callable

import keras

from keras_debias.data.split import Split
from keras_debias.features.frozen_features import FrozenFeatures
from keras_debias.recipes.checks import check_class_labels
from keras_debias.recipes.checks import is_regression
from keras_debias.recipes.evidence import diagnose
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.recipe import Recipe
from keras_debias.recipes.recommendation import Recommendation


@keras.saving.register_keras_serializable(package="keras_debias")
@dataclasses.dataclass(frozen=True)
class Recommended(Recipe):
    """Decides from the training data which method to use, and uses it.

    See `kd.recommended` for the rule. The method, the reason in words and
    the figures behind it are in the notes of the result.

    Attributes:
        kind_is_task: see `kd.recommended`. Defaults to `None`.

    Raises:
        TypeError: If `kind_is_task` is neither a boolean nor `None`.

    Example:

    ```python
    methods = {
        "plain": kd.recipes.FineTuning(),
        "recommended": kd.recipes.Recommended(),
    }
    ```
    """

    kind_is_task: bool | None = None

    def __post_init__(self):
        said = self.kind_is_task
        if said is not None and not isinstance(said, bool):
            raise TypeError(
                "Expected `kind_is_task` to be True, False or None. Received: "
                f"kind_is_task={said!r}"
            )

    def fit(self, trainer, train):
        if is_regression(train):
            return of_regression().fit(trainer, train)
        check_class_labels(train, self)
        found = diagnose(
            train.with_groups(None),
            trainer.frozen_features,
            trainer.validation,
            self.kind_is_task,
        )
        return found.fit(trainer, train)


def of_regression() -> Recommendation:
    """The recommendation for a regression: the rule is about classes."""
    return Recommendation(
        FineTuning(),
        "The labels are numbers. The rule compares how well models predict "
        "classes, and says nothing about a regression: plain fine-tuning. "
        "`kd.audit` shows which features go with the target; with groups, "
        "`kd.evaluate` shows where the model is worse.",
    )


def recommended(
    train: Split,
    model: keras.Model | Callable | None = None,
    validation: Split | None = None,
    kind_is_task: bool | None = None,
) -> Recipe:
    """The method to try first on data without group labels, and why.

    The rule looks at three models, which learn in seconds and predict only
    rows that they have not seen: clusters of frozen features, a shallow
    model (words and simple measures), and a linear probe on frozen features.
    Where more than one row in twenty is a copy of another, copies do not
    count. "Gain" is the held-out log loss of the label's frequency minus the
    model's. In this order:

    1. No model has a gain beyond chance: plain fine-tuning.
    2. One finding of `kd.audit` has 80 % of the shallow model's gain, and
       either the probe is wrong more often than by chance on rows that have
       the cue and another label, or the finding has 80 % of the probe's gain
       as well, and the probe is right above chance on those rows, yet less
       often than elsewhere: the groups of that cue are balanced. A cue that is
       the task leaves nothing else to be right by.
    3. The clusters have half of the probe's gain, the weights of
       `InversePropensitySampling` raise the held-out accuracy with these
       weights at the 1 % level (5 % where the clusters have 70 % of the gain:
       few rows are left to test with), and among rows of one kind the
       weighted model tells the label better than how typical a row is of its
       kind does (area under the ROC curve). Then the label goes with a kind
       of input, and that method is recommended. If the kind *is* the task,
       such as topics, nothing else tells the labels of its rows.
    4. A cue of the audit raises the log likelihood of the labels, given what
       the probe says, at the 1 % level (divided by the audit's tests) and by
       0.02 for each row with the cue; 25 of these rows have another label.
       Features of a pretrained encoder show what an input means; a cue that
       adds to them comes from how the rows were made (an annotation
       artifact), and fine-tuning learns it. `RakedSampling` balances the
       labels among the rows with each such cue, and draws rows with a rare
       one more often. Not where the label goes with a kind of input (see 7),
       where balanced classes help (6), or where the probe has less than three
       quarters of the shallow model's gain: such features are too weak to say
       what an input means.
    5. The shallow model has three quarters of the probe's gain, and on rows
       whose words hint at another class the probe is wrong more often than
       by chance: the most harmful cues of the audit, or the hints, are
       balanced.
    6. Classes are of unequal size, and balancing them raises the mean
       accuracy of the classes at the 1 % level: classes are balanced.
    7. Otherwise plain fine-tuning. Where step 3 failed, but the clusters have
       70 % of the probe's gain, or half and the accuracy rose at the 20 %
       level, the reason says that it is not certain, and how to find out.

    Whether a kind of input or a cue *is* the task, a reader may see where the
    data do not tell. So the reason names the kinds by their words (see
    `kd.auditing.describe_groups`), or the strongest cue of the audit. For
    kinds, say what you see with `kind_is_task`.

    With validation data, the same models learn from the training data with
    and without the method's weights. Unless the weights raise the lowest
    accuracy of a validation cell (label x cell, at least 25 rows) by one
    standard error, plain fine-tuning is kept.

    Args:
        train: `kd.data.Split` of texts or images with one class a row. Its
            groups, if any, are not used. For numbers as labels (a regression)
            plain fine-tuning is recommended, with the reason.
        model: the pretrained model that is to be fine-tuned, for its frozen
            features (see `kd.features.FrozenFeatures`), or a function of a
            `Split` to an array of features. Defaults to `None`: the decision
            is made when the method trains, on features of the network that the
            trainer makes.
        validation: `kd.data.Split` like `train`. Defaults to `None`.
        kind_is_task: boolean, or `None`. Whether the label is about the kind
            of input (its topic, its source), which you know and few rows may
            not tell. With `False` step 3 asks only whether the clusters have
            half of the probe's gain, and fewer rows may be effective (4 %,
            else 15). With `True`, where they have, steps 3 and 4 are left
            out. Defaults to `None`: the data decide.

    Returns:
        A recipe, for `kd.compare` or `fit`. With `model`, a
        `kd.recipes.Recommendation`: print it for the method, the reason in
        words and the figures. Without, `kd.recipes.Recommended()`.

    Raises:
        TypeError: If `train` is not a split.
        ValueError: If the labels are not one class a row, there is one class
            only, or the model has no features that can be read.

    Example:

    ```python
    found = kd.recommended(train, classifier)
    print(found)  # the method, and why
    model = found.fit(trainer, train)
    ```

    Reference:
        The rule is this library's; the parts are cited in `Clusters`,
        `CoTrainedClusters`, `ShallowHint` and `InversePropensitySampling`.
        Annotation artifacts:
        [Gururangan et al., 2018](https://arxiv.org/abs/1803.02324).
    """
    recipe = Recommended(kind_is_task)
    if not isinstance(train, Split):
        raise TypeError(
            "Expected `train` to be a `kd.data.Split`. Received: "
            f"{type(train).__name__}"
        )
    if is_regression(train):
        return of_regression()
    check_class_labels(train, recipe)
    if model is None:
        return recipe
    features = model
    if isinstance(model, keras.Model):
        features = FrozenFeatures(model)
    if not callable(features):
        raise TypeError(
            "Expected `model` to be a `keras.Model`, or a function of a split "
            f"to an array of features. Received: model={model!r}"
        )
    return diagnose(train.with_groups(None), features, validation, kind_is_task)
