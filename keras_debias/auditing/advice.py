"""`Advice`: which methods fit what an audit found, and why."""

import dataclasses

from keras_debias.utils.short_repr import ShortRepr

SMALL_GROUP = 50
SMALL_GROUP_SHARE = 0.01
IMBALANCE = 1.5


@dataclasses.dataclass(frozen=True, repr=False)
class Advice(ShortRepr):
    """What to do about one kind of finding.

    Args:
        finding: string, what was found.
        methods: tuple of strings, what fits, as it is called under `kd`.
        reason: string, why it fits, and what to look out for.

    Example:

    >>> texts = ["it never works"] * 30 + ["it always works"] * 30
    >>> report = kd.audit(Split(texts, ["no"] * 30 + ["yes"] * 30), folds=0)
    >>> report.advice[0].methods[0]
    'evaluate'
    """

    finding: str
    methods: tuple[str, ...]
    reason: str


def advise(report) -> tuple[Advice, ...]:
    """The advice that follows from a report, the most specific first."""
    advice = []
    if report.findings:
        if report.target == "errors":
            advice.append(_error_slice(report.findings[0]))
        else:
            advice += _known_cue(report.findings)
    probes = [p for p in report.probes if p.significant]
    if probes:
        best = max(probes, key=lambda probe: probe.gain)
        advice.append(_partial_input(best))
    if report.groups:
        advice += _groups(report)
    if report.target == "errors":
        return tuple(advice)
    counts = [count for count in report.label_counts.values() if count]
    if max(counts) > IMBALANCE * min(counts) and report.single_label:
        advice.append(
            Advice(
                f"Classes of {min(counts):,} to {max(counts):,} rows.",
                ("data.Split.sample", "regularizers.Diversity"),
                "Draw with `balance_labels=True`, or keep the outputs spread "
                "over the classes.",
            )
        )
    if not report.findings and not probes:
        advice.append(
            Advice(
                "No cue that this audit can see.",
                ("projections.TaskOnly", "callbacks.OODEvaluation"),
                "Fine-tune plainly and measure on other distributions. A cue "
                "that takes a whole sentence or a recognized object is not "
                "excluded.",
            )
        )
    return tuple(advice)


def _error_slice(slice_) -> Advice:
    return Advice(
        f"The model fails on a slice: class {slice_.label}, {slice_.feature}.",
        ("evaluate", "recipes.BalancedSampling"),
        f"{100 * slice_.error_rate_with:.1f} % wrong there and "
        f"{100 * slice_.error_rate_without:.1f} % in the rest of the class. "
        "`slice.with_groups(split)` makes groups of label and feature: "
        "measure the worst of them, and train on them in equal parts.",
    )


def _known_cue(findings):
    first = findings[0]
    if first.harm is not None:
        harmful = [f for f in findings if f.harm.significant]
        if not harmful:
            yield Advice(
                f"A named cue that costs nothing: {first.feature} -> "
                f"{first.label}.",
                ("projections.TaskOnly", "callbacks.OODEvaluation"),
                "The model makes no more errors where a finding misleads "
                "than without it. As far as this model shows, the findings "
                "belong to the task: fine-tune plainly.",
            )
            return
        first = max(harmful, key=lambda finding: finding.harm.excess_errors)
    reason = (
        "`finding.with_groups(split)` makes groups of label and cue: measure "
        "the worst of them, and train on them in equal parts; "
        "`BalancedSampling(groups=AuditGroups())` does both steps."
    )
    if first.harm is not None:
        reason = (
            f"The model follows it: {first.harm.excess_errors:.0f} excess "
            "errors. `finding.with_groups(split)` makes groups of label and "
            "cue: measure the worst of them, and train on them in equal parts."
        )
    yield Advice(
        f"A named cue: {first.feature} -> {first.label}.",
        ("evaluate", "recipes.BalancedSampling", "recipes.AuditGroups"),
        reason,
    )


def _partial_input(probe) -> Advice:
    return Advice(
        f"{probe.name}: {100 * probe.accuracy:.1f} % instead of "
        f"{100 * probe.majority:.1f} %.",
        ("recipes.Reweighting", "recipes.LearnedMixin"),
        "A model can go this far without the rest of the input. These take "
        "such a model, `BagOfWords()` or `SimpleFeatures()`, as `bias_only` "
        "and give less weight to the rows that it predicts.",
    )


def _groups(report):
    name, count = report.smallest_group
    if count < SMALL_GROUP or count < SMALL_GROUP_SHARE * report.n:
        yield Advice(
            f"A small group: {name}, {count:,} rows.",
            ("evaluate",),
            "Its accuracy is known to within "
            f"{_margin(count)} only: read intervals and several seeds. "
            "Sampling that balances groups repeats these rows often.",
        )


def _margin(count) -> str:
    """Half a 95 % interval of a share of one half, in points."""
    return f"{100 * 0.98 / max(count, 1) ** 0.5:.0f} points"
