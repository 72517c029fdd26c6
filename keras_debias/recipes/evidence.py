"""What a recommendation rests on: models that learn in seconds."""

import dataclasses
import functools

import numpy as np
from scipy import stats
from sklearn import metrics

from keras_debias.auditing import audit
from keras_debias.recipes import cross_fitting
from keras_debias.recipes.annotation_artifacts import annotation_artifacts
from keras_debias.recipes.audit_groups import AuditGroups
from keras_debias.recipes.balanced_sampling import BalancedSampling
from keras_debias.recipes.class_labels import ClassLabels
from keras_debias.recipes.clusters import Clusters
from keras_debias.recipes.clusters import cell_probabilities
from keras_debias.recipes.co_trained_clusters import hinted_classes
from keras_debias.recipes.finding_groups import FindingGroups
from keras_debias.recipes.fine_tuning import FineTuning
from keras_debias.recipes.frozen_probe import GRID
from keras_debias.recipes.hints import hinted_cells
from keras_debias.recipes.inverse_propensity_sampling import (
    InversePropensitySampling,
)
from keras_debias.recipes.propensity import inverse_propensity
from keras_debias.recipes.propensity import propensity_weights
from keras_debias.recipes.raked_sampling import RakedSampling
from keras_debias.recipes.recommendation import Recommendation
from keras_debias.recipes.shallow_hint import ShallowHint
from keras_debias.recipes.shallow_model import ShallowModel
from keras_debias.recipes.shallow_model import class_names
from keras_debias.recipes.shallow_model import num_classes
from keras_debias.recipes.view_sampling import ViewSampling
from keras_debias.recipes.words_of_kinds import words_of_kinds

FOLDS = 5
MIN_CELL = 25
# A head that interpolates ignores weights: at most this `C`.
LARGEST_C = 0.01
# With weights of cells a seventh of the rows is effective: simpler heads.
SMALL_CS = (0.0003, 0.001, 0.003, 0.01)
REPEATS = 3
CUE_SHARE = 0.8
CLUSTER_SHARE = 0.5
SHALLOW_SHARE = 0.75
STANDARD_ERRORS = 2.58  # the 1 % level
# Where clusters tell so much about the label, few rows are left to test with,
# and not to act costs most.
STRONG_SHARE = 0.7
STRONG_ERRORS = 1.96  # the 5 % level
PERHAPS = 1.28  # the 20 % level
LEVEL = 0.01
CONFIDENT = 0.5
CUE_SCALE = 10.0
# What balanced groups leave of the rows where 1 in 100 is against its kind.
LEAST_EFFECTIVE = 0.04
SAY_SO = "say so, and it is balanced: `kd.recommended(..., kind_is_task=False)`"


def diagnose(
    train, features, validation=None, kind_is_task=None
) -> Recommendation:
    """Applies the rule of `kd.recommended`."""
    given = len(train)
    train = _without_copies(train)
    smallest = np.unique(train.y, return_counts=True)[1].min()
    if smallest < FOLDS:
        return Recommendation(
            FineTuning(),
            f"A class has {smallest} rows: too few to look for shortcuts.",
            {},
        )
    evidence = Evidence(train, features, kind_is_task)
    found = evidence.decide()
    if validation is not None and not isinstance(found.recipe, FineTuning):
        found = evidence.confirm(found, validation)
    if len(train) < given:
        copies = f"{given - len(train):,} rows are copies, and do not count."
        reason = f"{found.reason} {copies}"
        found = dataclasses.replace(found, reason=reason)
    return found


def _without_copies(train):
    """Equal rows with equal labels once, where there are many of them.

    All tests here take rows to be independent.
    """
    keys = cross_fitting.keys_of_copies(train)
    if keys is None:
        return train
    keys = keys * (int(train.y.max()) + 1) + train.y
    return train.take(np.sort(np.unique(keys, return_index=True)[1]))


class Evidence:
    """The models behind a recommendation, fitted once."""

    def __init__(self, train, features, kind_is_task=None):
        self.train = train
        self.features = features
        self.kind_is_task = kind_is_task
        self.y = train.y
        self.rows = np.arange(len(train))
        self.classes = num_classes(train)
        self.folds = cross_fitting.folds_of(train, FOLDS)
        self.transform = cross_fitting.ProbeFeatures(features(train))
        self.matrix = self.transform(features(train))
        self.C, self.probe = cross_fitting.choose_C(
            self.matrix, self.y, self.classes, GRID, self.folds
        )
        self.right = self.probe.argmax(axis=1) == self.y
        self.chance = 1 / len(np.unique(self.y))
        # Weights that balance the classes.
        self.by_class = inverse_propensity(self.y, np.zeros(len(self.y), int))
        self.shallow = self._shallow()
        prior = np.bincount(self.y, minlength=self.classes) / len(self.y)
        self.base = -np.log(prior[self.y])
        self.notes = {}
        # Says why step 3 does not act, where the label goes with a kind of
        # input: that reads all texts, and is asked for only if no rule acts.
        self.doubt = None
        # The part of a trainer that group inference uses.
        self.clusters = Clusters().cells(self, train)
        self.figures = {}
        # How many pairs of feature and label the audit tested.
        self.tests = 0

    def frozen_features(self, split):
        return self.features(split)

    def _shallow(self):
        if not cross_fitting.has_shallow_features(self.train):
            return None
        return ShallowModel().out_of_fold(self.train)

    def decide(self) -> Recommendation:
        rules = (
            self._nothing_predicts,
            self._one_cue,
            self._clusters,
            self._artifacts,
            self._words,
            self._classes,
        )
        for rule in rules:
            found = rule()
            if found is not None:
                recipe, reason = found
                return Recommendation(recipe, reason, self.figures)
        if self.doubt is not None:
            reason = self.doubt()
        else:
            reason = (
                "No shortcut was found that misleads a model: plain "
                f"fine-tuning is kept.{self._strongest_cue()}"
            )
        return Recommendation(FineTuning(), reason, self.figures)

    def _strongest_cue(self) -> str:
        """What a reader can judge, and the data do not tell."""
        if "cue" not in self.figures:
            return ""
        return (
            f" The strongest cue of `kd.audit` is: {self.figures['cue']}. If "
            "that is not the task, compare with `kd.recipes.BalancedSampling("
            "groups=kd.recipes.AuditGroups())` on test data without it."
        )

    # The rules, in order: `(recipe, reason)`, or None.

    def _nothing_predicts(self):
        self.figures["probe_gain"], error = self._gain(self.probe)
        shallow, shallow_error = self._gain(self.shallow)
        self.figures["shallow_gain"] = shallow
        if (
            self.figures["probe_gain"] > STANDARD_ERRORS * error
            or shallow > STANDARD_ERRORS * shallow_error
        ):
            return None
        return FineTuning(), (
            "Neither words and simple measures nor frozen features predict "
            "the label better than its frequency."
        )

    def _one_cue(self):
        self.findings = self._audit()
        if not self.findings:
            return None
        groups = AuditGroups()
        cells = groups.cells(self, self.train)
        gain, _ = self._cell_gain(cells)
        self.figures["cue"] = self.notes["cue"][0]
        self.figures["cue_gain"] = gain
        known = self.figures["shallow_gain"]
        if known <= 0 or gain < CUE_SHARE * known:
            return None
        share = _percent(min(gain / known, 1.0))
        recipe = BalancedSampling(groups=groups)
        reason = (
            f"One cue, {self.notes['cue'][0]}, holds {share} of what words "
            "and simple measures tell about the label, "
        )
        done = "Groups of label x cue are balanced."
        if self._misled(cells):
            return recipe, (
                f"{reason}and it misleads: rows with the cue and another "
                f"label are predicted worse than by chance. {done}"
            )
        if gain < CUE_SHARE * self.figures["probe_gain"]:
            return None
        against = self._against(cells)
        if against is None:
            return None
        number, right = against
        return recipe, (
            f"{reason}and as good as all that frozen features do. It is not "
            f"the task: {number} rows have the cue of another label, and the "
            f"rest of the input still tells {_percent(right)} of their "
            f"labels. {done}"
        )

    def _clusters(self):
        gain, _ = self._cell_gain(self.clusters)
        self.figures["cluster_gain"] = gain
        best = max(self.figures["probe_gain"], 1e-12)
        if gain < CLUSTER_SHARE * best:
            return None
        if self.kind_is_task:
            self.doubt = functools.partial(self._task, gain / best)
            return None
        if gain >= STRONG_SHARE * best:
            self.doubt = functools.partial(self._task_or_shortcut, gain / best)
        recipe = InversePropensitySampling()
        cells = recipe.views[0].cells(self, self.train)
        hints = hinted_classes(cells, self.train)
        if (hints == self.y).all():
            return None
        if self.kind_is_task is False:
            recipe = InversePropensitySampling(min_effective=LEAST_EFFECTIVE)
            return recipe, (
                f"{self._kinds(gain / best)} The label is not about that, you "
                "say: weights make it independent of the kind."
            )
        weights, _ = propensity_weights(
            self.y, [(cells, hints)], recipe.min_effective
        )
        C, told = self._weighted_head(weights)
        before, after, error = _accuracies(
            self._held_out((self.C, self.by_class), (C, weights)), weights
        )
        self.figures["accuracy_over_balanced_rows"] = before
        self.figures["the_same_with_weights"] = after
        if after - before <= PERHAPS * error:
            return None
        # Where the kind is the task, nothing else tells the labels of a kind.
        areas = self._within_kinds(hints, told)
        if areas is not None:
            self.figures["auc_within_kinds"] = areas[0]
            self.figures["the_same_of_how_typical_a_row_is"] = areas[1]
        enough = (
            STRONG_ERRORS if gain >= STRONG_SHARE * best else STANDARD_ERRORS
        )
        if (
            after - before <= enough * error
            or areas is None
            or areas[0] <= areas[1]
        ):
            self.doubt = functools.partial(
                self._doubt, gain / best, (before, after), areas
            )
            return None
        return recipe, (
            f"{self._kinds(gain / best)} Weights that make the label "
            "independent of the kind raise the held-out accuracy from "
            f"{_change(before, after)}, counted so that label and inferred "
            "kind are balanced."
        )

    def _kinds(self, share) -> str:
        """That the label goes with clusters, and what these are about.

        Args:
            share: what they know about the label, of what a probe knows.
        """
        sentence = (
            "The label goes with a kind of input: "
            f"{len(np.unique(self.clusters))} clusters of frozen features, "
            f"made without labels, hold {_percent(share)} of what a probe "
            "knows about the label."
        )
        about = words_of_kinds(self.train, self.clusters)
        if not about:
            return sentence
        return f"{sentence} By their words: {'; '.join(about)}."

    def _task(self, share) -> str:
        """Where the kind of input is the label, by what a reader says."""
        return (
            f"{self._kinds(share)} That is the task, you say: plain "
            "fine-tuning is kept."
        )

    def _task_or_shortcut(self, share) -> str:
        """What to do where the kind of input is nearly the label."""
        if self.kind_is_task is False:
            return (
                f"{self._kinds(share)} No row has another label than its kind, "
                "so there is nothing to balance. Add rows in which the kind "
                "does not go with the label. Until then plain fine-tuning is "
                "kept."
            )
        return (
            f"{self._kinds(share)} That is the task or a shortcut: these "
            f"{len(self.y)} rows do not tell which. If the label is not about "
            f"that, {SAY_SO}; test on rows in which the kind does not go with "
            "the label. Until then plain fine-tuning is kept."
        )

    def _doubt(self, share, accuracies, areas) -> str:
        """Why it is not certain that the kind of input misleads.

        Args:
            share: see `_kinds`.
            accuracies: without and with weights.
            areas: see `_within_kinds`.
        """
        within = ""
        if areas is not None:
            within = (
                "Within a kind they tell the label with an area under the ROC "
                f"curve of {areas[0]:.2f}, and how typical a row is of its "
                f"kind tells it with {areas[1]:.2f}. "
            )
        return (
            f"{self._kinds(share)} It is not certain that this misleads: on "
            f"{len(self.y)} rows, weights that make the label independent of "
            "the kind change the held-out accuracy from "
            f"{_change(*accuracies)}. {within}More rows would tell. If the "
            f"label is not about that, {SAY_SO}. Until then plain fine-tuning "
            "is kept."
        )

    def _artifacts(self):
        # A cue of the kind of input: what `doubt` says is of more use.
        if self.doubt is not None:
            return None
        # Features that know less than words do not show what a text means.
        known = self.figures["probe_gain"]
        if known < SHALLOW_SHARE * self.figures["shallow_gain"]:
            return None
        found = annotation_artifacts(
            self.train, self.findings, self.tests, self.probe
        )
        # Unequal classes may mislead more than a cue of some rows.
        if not found or self._classes() is not None:
            return None
        self.figures["gain_beyond_features"] = found[0].gain
        findings = tuple(each.finding for each in found)
        named = "; ".join(map(_misleads, findings))
        groups = FindingGroups(findings)
        return RakedSampling(views=groups), (
            "Cues tell the label beyond what frozen features tell, so they "
            "come from how the rows were made, not from what they mean: "
            f"{named}. Labels are balanced among the rows with each cue, and "
            "rows with a rare cue are drawn more often."
        )

    def _words(self):
        best = max(self.figures["probe_gain"], 1e-12)
        if self.figures["shallow_gain"] < SHALLOW_SHARE * best:
            return None
        names = class_names(self.train)
        hints, _ = hinted_cells(self.shallow, names, CONFIDENT)
        if not self._misled(hints):
            return None
        reason = (
            "Words and simple measures hold "
            f"{_percent(self.figures['shallow_gain'] / best)} of what a probe "
            "on frozen features knows about the label, and they mislead: rows "
            "that hint at another class are predicted worse than by chance. "
        )
        harmful = [
            finding
            for finding in self.findings
            if self._misled(
                np.where(
                    finding.feature.present(self.train), finding.label, "none"
                )
            )
        ]
        if harmful:
            groups = AuditGroups(cues=2)
            cells = groups.cells(self, self.train)
            if self._misled(cells):
                cues = " and ".join(self.notes["cue"])
                return BalancedSampling(groups=groups), (
                    f"{reason}Groups of label x the cues {cues} are balanced."
                )
        return BalancedSampling(groups=ShallowHint()), (
            f"{reason}Groups of label x hinted class are balanced."
        )

    def _classes(self):
        sizes = np.bincount(self.y)
        sizes = sizes[sizes > 0]
        if sizes.max() < 1.5 * sizes.min():
            return None
        C = min(self.C, LARGEST_C)
        before, after, error = _accuracies(
            self._held_out((C, None), (C, self.by_class)), self.by_class
        )
        self.figures["mean_accuracy_of_classes"] = before
        self.figures["the_same_with_balanced_classes"] = after
        if after - before <= STANDARD_ERRORS * error:
            return None
        return BalancedSampling(groups=ClassLabels()), (
            f"The largest class has {sizes.max() / sizes.min():.1f} times the "
            "rows of the smallest. Balancing them raises the mean held-out "
            f"accuracy of the classes from {_change(before, after)}. No "
            "shortcut beyond that was found."
        )

    # What the rules ask.

    def _gain(self, probabilities):
        if probabilities is None:
            return 0.0, 0.0
        chosen = probabilities[self.rows, self.y]
        gains = self.base + np.log(np.clip(chosen, 1e-12, None))
        return float(gains.mean()), float(gains.std() / len(gains) ** 0.5)

    def _cell_gain(self, cells):
        return self._gain(
            cell_probabilities(cells, self.y, self.classes, self.folds)
        )

    def _audit(self):
        try:
            report = audit(self.train, folds=0)
        except (TypeError, ValueError):
            # Not texts or images, or no feature is frequent enough.
            return []
        self.tests = report.tests
        return report.findings

    def _misled(self, cells) -> bool:
        """Whether the probe is worse than chance in some label x cell."""
        groups = self.train.with_label_groups({"cell": cells}).groups
        tests = []
        for group in range(len(groups.names)):
            member = groups.ids == group
            if member.sum() >= MIN_CELL:
                hits = int(self.right[member].sum())
                tests.append(stats.binom.cdf(hits, member.sum(), self.chance))
        return bool(tests) and min(tests) * len(tests) < LEVEL

    def _against(self, cells) -> tuple[int, float] | None:
        """Rows with the cue of another label, if the rest tells their labels.

        Returns:
            Their number, and the share that the probe predicts; `None` unless
            that is above chance and below that of the other rows.
        """
        names = np.asarray(class_names(self.train), dtype=object)[self.y]
        against = (cells != "none") & (cells != names)
        number, hits = int(against.sum()), int(self.right[against].sum())
        if number < MIN_CELL:
            return None
        elsewhere = self.right[~against].mean()
        if (
            stats.binom.sf(hits - 1, number, self.chance) < LEVEL
            and stats.binom.cdf(hits, number, elsewhere) < LEVEL
        ):
            return number, hits / number
        return None

    def _weighted_head(self, weights) -> tuple[float, np.ndarray]:
        """The `C` with the lowest held-out log loss of weighted rows.

        Returns:
            It, and the held-out probabilities of all rows.
        """
        heads = []
        for C in SMALL_CS:
            found = cross_fitting.out_of_fold(
                self.matrix, self.y, self.classes, C, self.folds, weights
            )
            chosen = np.clip(found[self.rows, self.y], 1e-12, None)
            heads.append((-(weights * np.log(chosen)).sum(), C, found))
        _, C, found = min(heads, key=lambda head: head[0])
        return C, found

    def _within_kinds(self, hints, told) -> tuple[float, float] | None:
        """How well labels are told among rows of one kind.

        Areas under the ROC curve of the hinted class against the others,
        means over the hinted classes.

        Args:
            hints: the class that the kind of each row hints at, `(n,)`.
            told: probabilities of the labels, `(n, classes)`.

        Returns:
            The area of `told`, and that of a probe of the *hints*, which
            knows how typical a row is of its kind. `None` where too few rows
            are of a kind, or of another label than it hints at.
        """
        there, codes = np.unique(hints, return_inverse=True)
        codes = codes.reshape(-1).astype("int32")
        areas = []
        if len(there) > 1 and np.bincount(codes).min() >= FOLDS:
            target = self.train._replace(y=codes, label_names=None, groups=None)
            typical = cross_fitting.out_of_fold(
                self.matrix,
                *(codes, len(there), self.C),
                cross_fitting.folds_of(target, FOLDS),
            )
            for code, hint in enumerate(there):
                member = codes == code
                aligned = self.y[member] == hint
                if FOLDS <= aligned.sum() <= len(aligned) - FOLDS:
                    areas.append(
                        [
                            metrics.roc_auc_score(aligned, told[member, hint]),
                            metrics.roc_auc_score(
                                aligned, typical[member, code]
                            ),
                        ]
                    )
        if not areas:
            return None
        found, typical = np.mean(areas, axis=0)
        return float(found), float(typical)

    def _held_out(self, *heads) -> list[np.ndarray]:
        """How often each head classifies each row correctly, held out.

        The means over several partitions into folds.

        Args:
            heads: `(C, sample weights or None)` of each head.
        """
        partitions = [
            cross_fitting.folds_of(self.train, FOLDS, seed)
            for seed in range(REPEATS)
        ]
        return [
            np.mean(
                [
                    cross_fitting.out_of_fold(
                        self.matrix, self.y, self.classes, C, folds, weights
                    ).argmax(axis=1)
                    == self.y
                    for folds in partitions
                ],
                axis=0,
            )
            for C, weights in heads
        ]

    # With validation data.

    def confirm(self, found, validation) -> Recommendation:
        """Keeps plain fine-tuning unless a validation cell gains."""
        validation = validation.with_groups(None)
        if self.train.label_names is not None:
            validation = validation.align_labels(self.train.label_names)
        matrix, other = self.matrix, self.transform(self.features(validation))
        cues = _given_cues(found.recipe)
        if cues is not None:
            # Frozen features do not show them; a fine-tuned network does.
            matrix = np.hstack([matrix, *_columns(cues, self, self.train)])
            other = np.hstack([other, *_columns(cues, self, validation)])
        C = min(self.C, LARGEST_C)
        weights = self._weights(found.recipe)
        right = [
            cross_fitting.fitted(matrix, self.y, C, each).predict(other)
            == validation.y
            for each in (None, weights)
        ]
        cells = self._validation_cells(found.recipe, validation)
        groups = validation.with_label_groups({"cell": cells}).groups
        means = []
        for group in range(len(groups.names)):
            member = groups.ids == group
            if member.sum() >= MIN_CELL:
                means.append(
                    (*(each[member].mean() for each in right), member.sum())
                )
        if not means:
            return found
        worst_before = min(mean[0] for mean in means)
        after, rows = min((mean[1], mean[2]) for mean in means)
        error = float(np.sqrt(max(after * (1 - after), 1e-9) / rows))
        figures = {
            **found.evidence,
            "validation_worst_cell": float(worst_before),
            "the_same_with_the_method": float(after),
        }
        if after - worst_before >= error:
            return dataclasses.replace(found, evidence=figures)
        return Recommendation(
            FineTuning(),
            "A shortcut was found in the training data, but acting on it does "
            "not help on the validation data: the lowest accuracy of a cell "
            f"is {100 * worst_before:.1f} % without and {100 * after:.1f} % "
            "with the method. Plain fine-tuning is kept.",
            figures,
        )

    def _weights(self, recipe):
        if isinstance(recipe, ViewSampling):
            return recipe.weights(self, self.train)
        groups = recipe.groups.infer(self, self.train)
        weights = 1.0 / np.bincount(groups.ids)[groups.ids]
        # A mean of 1, so that `C` penalizes as much as without weights.
        return weights / weights.mean()

    def _validation_cells(self, recipe, validation):
        if isinstance(recipe, ViewSampling):
            view = recipe.views[0]
        else:
            view = recipe.groups
        return view.cells(self, self.train, validation)


def _misleads(finding) -> str:
    """A cue, and how often a probe follows it where it misleads."""
    label, harm = finding.label, finding.harm
    return (
        f"{finding.feature} -> {label} (with it, a probe takes "
        f"{_percent(harm.error_rate_with)} of {harm.n} rows of other labels "
        f"for {label}, without it {_percent(harm.error_rate_without or 0.0)})"
    )


def _given_cues(recipe) -> FindingGroups | None:
    """The cues that a recipe balances, if it is about given ones."""
    if isinstance(recipe, ViewSampling):
        (view,) = recipe.views
        if isinstance(view, FindingGroups):
            return view
    return None


def _columns(cues, trainer, split) -> list[np.ndarray]:
    """Which rows have which cue, `(n, 1)` each; large, so hardly penalized."""
    return [
        CUE_SCALE * present[:, None]
        for present in cues.views(trainer, trainer.train, split)
    ]


def _accuracies(correct, importance) -> tuple[float, float, float]:
    """Weighted accuracies of two heads, and the error of the difference.

    Args:
        correct: two arrays, see `Evidence._held_out`.
        importance: weights of the rows in both accuracies.
    """
    share = importance / importance.sum()
    first, second = (float((share * each).sum()) for each in correct)
    difference = correct[1] - correct[0]
    error = np.sqrt((share**2 * (difference - (second - first)) ** 2).sum())
    return first, second, float(error)


def _percent(share) -> str:
    return f"{100 * share:.0f} %"


def _change(before, after) -> str:
    return f"{100 * before:.1f} to {100 * after:.1f} %"
