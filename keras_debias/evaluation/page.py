"""Scores as an HTML page: the result in words first."""

from collections.abc import Sequence

from keras_debias.evaluation import table
from keras_debias.utils import html_page

# Groups of a chart; the table of `print(scores)` has them all.
MOST = 60
# A worst group that is closer than this to the whole is not far behind.
FAR = 0.05


def page(scores, title: str = "Evaluation") -> str:
    """The whole page."""
    return html_page.page(title, parts(scores))


def body(scores) -> str:
    """What a notebook shows."""
    return html_page.fragment([_headline(scores), *_results(scores)])


def parts(
    scores, done: Sequence[str] = (), steps: Sequence[str] = ()
) -> list[str]:
    """The sections of the page.

    Args:
        scores: `Scores`.
        done: sequence of strings, paragraphs on what was done before the
            scores were computed.
        steps: sequence of strings, what to do next, before what follows from
            the scores.
    """
    rows = ", ".join(f"{split.name} ({split.n:,} rows)" for split in scores)
    return [
        _headline(scores),
        *_results(scores),
        html_page.heading("What was done"),
        html_page.paragraphs(
            [
                *done,
                f"Each prediction was compared with its label: {rows}.",
                *(
                    [
                        "Accuracy is the share of correct ones; the gap is the "
                        "accuracy minus that of the worst group."
                    ]
                    if any(split.accuracy is not None for split in scores)
                    else []
                ),
            ]
        ),
        html_page.heading("How sure is it"),
        html_page.paragraphs([_certainty(scores)]),
        html_page.bullets(
            f"{split.name}: {note}" for split in scores for note in split.notes
        ),
        html_page.heading("What to do next"),
        html_page.bullets([*steps, *_next_steps(scores)]),
    ]


def headline(scores) -> str:
    """One sentence for each split."""
    sentences = []
    for split in scores:
        if split.accuracy is None:
            sentences += [
                f"{split.name}: {name} {table.plain(metric.value)} on "
                f"{split.n:,} rows"
                + (
                    "."
                    if metric.worst is None
                    else f", {table.plain(metric.worst)} in the worst group, "
                    f"{metric.worst_group}."
                )
                for name, metric in list(split.metrics.items())[:1]
            ]
            continue
        text = (
            f"{split.name}: {table.percent(split.accuracy)} % of {split.n:,} "
            "rows are predicted correctly"
        )
        if split.worst_group is not None:
            text += (
                f", {table.percent(split.worst_group_accuracy)} % in the "
                f"worst group, {split.worst_group}"
            )
        sentences.append(f"{text}.")
    return " ".join(sentences)


def _headline(scores) -> str:
    return html_page.headline(headline(scores))


def _results(scores) -> list[str]:
    of_classes = [split for split in scores if split.accuracy is not None]
    result = _accuracies(of_classes) if of_classes else []
    found = table.metric_rows(scores)
    for title, header, rows in found:
        result += [html_page.heading(title, 3), html_page.table(header, rows)]
    if found:
        result.append(
            html_page.note(f"{table.METRICS_NOTE} A star: the worst group.")
        )
    return result


def _accuracies(scores) -> list[str]:
    result = [html_page.table(*table.score_rows(scores))]
    if not any(split.groups for split in scores):
        return result
    legend = [("one", "a group"), ("two", "the worst group")]
    for split in scores:
        groups = sorted(
            (g for g in split.groups if g.accuracy is not None),
            key=lambda group: group.accuracy,
        )
        if not groups:
            continue
        lines = [
            html_page.chart_line(
                f"{group.name} (n = {group.n:,})",
                table.percent(group.accuracy, group.interval),
                [
                    (
                        "two" if group.name == split.worst_group else "one",
                        group.accuracy,
                    )
                ],
                group.interval,
            )
            for group in groups[:MOST]
        ]
        whole = html_page.chart_line(
            "all rows",
            table.percent(split.accuracy, split.accuracy_interval),
            [],
            split.accuracy_interval,
            [("one", split.accuracy)],
        )
        result += [
            html_page.heading(f"{split.name}: accuracy by group, percent", 3),
            html_page.chart([whole, *lines], legend),
        ]
        if len(groups) > MOST:
            result.append(
                html_page.note(
                    f"The {MOST} groups with the lowest accuracy, of "
                    f"{len(groups)}."
                )
            )
    return result


def _certainty(scores) -> str:
    if scores.confidence is None:
        return (
            "Intervals were not computed: differences of a few points may be "
            "chance, above all in small groups."
        )
    return (
        f"Brackets and gray bars are {100 * scores.confidence:g} % intervals: "
        "what other rows of the same kind would give. They say nothing about "
        "rows of another kind, nor about training again with another seed."
    )


def _next_steps(scores) -> list[str]:
    steps = []
    for split in scores:
        if split.worst_group is None:
            continue
        low = split.gap if split.gap_interval is None else split.gap_interval[0]
        if low > FAR:
            steps += [
                f"{split.name}: {split.worst_group} is behind by "
                f"{100 * split.gap:.1f} points. Look at its wrong "
                'predictions; `kd.audit(split, target="errors", '
                "predictions=...)` names the words that go with them.",
                "Train again with `kd.recommended(train)`, which needs no "
                "group labels, or with `kd.recipes.BalancedSampling()`, and "
                "compare by `kd.compare`.",
            ]
        elif split.gap > FAR:
            steps.append(
                f"{split.name}: {split.worst_group} may be behind, but has "
                "too few rows to tell. Label more rows of it."
            )
        else:
            steps.append(f"{split.name}: no group is far behind.")
    if not steps:
        steps.append(
            "Give the rows groups: an average hides the rows on which a "
            "shortcut fails. `kd.audit(split)` proposes which."
        )
    return list(dict.fromkeys(steps))
