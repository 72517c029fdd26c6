"""The comparison as one HTML page that needs nothing else."""

import json

import numpy as np

from keras_debias.comparison import tables
from keras_debias.comparison.statistics import WORST
from keras_debias.comparison.statistics import is_percent
from keras_debias.comparison.statistics import main_columns
from keras_debias.comparison.statistics import shown
from keras_debias.comparison.statistics import spelled
from keras_debias.utils import html_page
from keras_debias.utils.html_page import heading
from keras_debias.utils.html_page import note
from keras_debias.utils.html_page import paragraphs
from keras_debias.utils.html_page import table

# Colors of the chart.
KINDS = {"accuracy": "one", "worst_group_accuracy": "two"}


def page(comparison, title="Comparison", introduction=()) -> str:
    """The page as a string."""
    parts = [paragraphs(introduction)]
    parts.append(html_page.headline(headline(comparison)))
    if comparison.runs:
        parts += [_chart(comparison), *_results(comparison)]
    parts += [heading("What was done"), paragraphs([_summary(comparison)])]
    parts += _certainty(comparison)
    parts += [
        heading("What to do next"),
        html_page.bullets(_next_steps(comparison)),
    ]
    if comparison.runs:
        parts += _validation(comparison)
        parts += [heading("Groups"), *_groups(comparison)]
    parts += [heading("Costs"), table(*tables.costs(comparison))]
    parts.append(
        note(
            "Seconds of training, evaluation not included; the highest host "
            "memory of the process, and of the GPU where one was used."
        )
    )
    return html_page.page(title, [*parts, *_records(comparison)])


def body(comparison) -> str:
    """What a notebook shows."""
    parts = [html_page.headline(headline(comparison))]
    if comparison.runs:
        parts += [_chart(comparison), *_results(comparison)]
    parts.append(html_page.bullets(comparison.diagnoses()))
    return html_page.fragment(parts)


def headline(comparison) -> str:
    """Which method is best, by the worst group where there are groups."""
    if not comparison.runs:
        return "No run has finished."
    first = comparison.methods[0]
    sentences = []
    for split, measure in _judged(comparison).items():
        lines = {
            line["method"]: line
            for line in comparison.summary().to_dict("records")
            if (line["split"], line["measure"]) == (split, measure)
        }
        choose = max if _rises(comparison, split, measure) else min
        best = choose(lines, key=lambda method: lines[method]["mean"])
        unit = " %" if is_percent(measure) else ""
        text = (
            f"{split}: {best} has the best {spelled(measure)}, "
            f"{shown(measure, lines[best]['mean'])}{unit}"
        )
        if best != first and first in lines:
            text += (
                f"; {first} has {shown(measure, lines[first]['mean'])}{unit}"
            )
            pairs, better = lines[best]["pairs"], lines[best]["better"]
            if pairs > 1:
                text += f", and is behind in {better:.0f} of {pairs:.0f} seeds"
            elif pairs:
                text += ", from one seed"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def _judged(comparison) -> dict[str, str]:
    """The measure of each split: the worst group where there is one.

    It is that of the accuracy, or of the first metric where there is none.
    """
    measures = {}
    for split, measure in main_columns(comparison.summary()):
        measures.setdefault(split, []).append(measure)
    judged = {}
    for split, names in measures.items():
        worst = f"{WORST}{names[0]}"
        judged[split] = worst if worst in names else names[0]
    return judged


def _rises(comparison, split, measure) -> bool:
    """Whether a higher value of the measure is better."""
    frame = comparison.frame
    chosen = (frame["split"] == split) & (frame["measure"] == measure)
    return bool(frame[chosen]["higher_is_better"].iloc[0])


def _chart(comparison) -> str:
    frame, summary = comparison.frame, comparison.summary()
    parts = []
    for split in dict.fromkeys(frame["split"]):
        lines = []
        # The axis is in percent; other metrics are in the table.
        measures = [
            m for s, m in main_columns(summary) if s == split and m in KINDS
        ]
        if not measures:
            continue
        for method in comparison.methods:
            points, strokes, values = [], [], []
            for measure in measures:
                chosen = frame[
                    (frame["split"] == split)
                    & (frame["measure"] == measure)
                    & (frame["method"] == method)
                ]["value"]
                if chosen.empty:
                    continue
                kind = KINDS[measure]
                points += [(f"{kind} faint", float(v)) for v in chosen]
                strokes.append((kind, float(np.mean(chosen))))
                values.append(f"{100 * np.mean(chosen):.1f}")
            if values:
                lines.append(
                    html_page.chart_line(
                        method, " / ".join(values), points, None, strokes
                    )
                )
        legend = [(KINDS[measure], spelled(measure)) for measure in measures]
        parts += [
            heading(f"{split}: percent", 3),
            html_page.chart(lines, legend),
        ]
    if parts:
        parts.append(note("A circle is a seed, a stroke the mean over seeds."))
    return "\n".join(parts)


def _results(comparison) -> list[str]:
    return [
        table(*tables.results(comparison)),
        note(tables.note(comparison)),
    ]


def _certainty(comparison) -> list[str]:
    parts = [heading("How sure is it")]
    parts.append(html_page.bullets(comparison.diagnoses()))
    if comparison.runs:
        parts += [
            table(*tables.intervals(comparison)),
            note(tables.ROWS_NOTE),
        ]
        header, rows = tables.tests(comparison)
        if rows:
            parts += [
                heading("Paired tests over seeds", 3),
                table(header, rows),
                note(tables.TESTS_NOTE),
            ]
    return parts


def _next_steps(comparison) -> list[str]:
    steps = []
    if comparison.errors:
        steps.append(
            "Some runs are broken: read their errors below, and compare "
            "again; finished runs are kept."
        )
    seeds = {run.seed for run in comparison.runs}
    if 0 < len(seeds) < 3:
        steps.append(
            f"Add seeds: {len(seeds)} cannot tell a method from the luck of "
            "a start. Three are few, five are better."
        )
    if comparison.runs and "worst_group_accuracy" not in set(
        comparison.frame["measure"]
    ):
        steps.append(
            "Give the test data groups: an average hides the rows on which a "
            "shortcut fails."
        )
    if comparison.runs:
        steps.append(
            "Choose on validation data, by `comparison.choose(criterion)`, and "
            "not by the test sets above; then train that method once more "
            "and save it."
        )
    return steps


def _validation(comparison) -> list[str]:
    header, rows = tables.criteria(comparison)
    if not rows:
        return []
    return [
        heading("Criteria on validation data"),
        table(header, rows),
        note(
            "Mean over seeds, percent. Average, worst class and disagreement "
            "with a biased model need no group labels."
        ),
    ]


def _records(comparison) -> list[str]:
    """Errors, notes, versions and settings."""
    parts = []
    if comparison.errors:
        parts.append(heading("Broken runs"))
        for (method, seed), error in comparison.errors.items():
            parts.append(heading(f"{method}, seed {seed}", 3))
            parts.append(html_page.code(error))
    notes = [
        {"method": run.method, "seed": run.seed, **run.notes}
        for run in comparison.runs
        if run.notes
    ]
    if notes:
        parts += [heading("Notes of the methods"), _json(notes)]
    settings = {run.method: run.settings for run in comparison.runs}
    environments = []
    for run in comparison.runs:
        if run.environment not in environments:
            environments.append(run.environment)
    return [
        *parts,
        heading("Versions and machine"),
        _json(environments),
        heading("Configuration"),
        _json({"methods": settings, **comparison.configuration}),
    ]


def _summary(comparison) -> str:
    seeds = sorted({run.seed for run in comparison.runs})
    return (
        f"{len(comparison.methods)} methods, seeds {seeds}, "
        f"{len(comparison.runs)} finished runs, "
        f"{len(comparison.errors)} broken. The first method, "
        f"{comparison.methods[0]}, is what the others are compared with."
    )


def _groups(comparison):
    found = {}
    for run in comparison.runs:
        for split in run.scores:
            for group in split.groups:
                if group.accuracy is not None:
                    key = split.name, f"{group.name} (n = {group.n})"
                    cell = found.setdefault(key[0], {}).setdefault(key[1], {})
                    cell.setdefault(run.method, []).append(group.accuracy)
    if not found:
        return [paragraphs(["No split has groups."])]
    parts = []
    for split, groups in found.items():
        methods = [
            m
            for m in comparison.methods
            if any(m in g for g in groups.values())
        ]
        rows = [
            [
                name,
                *(
                    f"{100 * sum(cell[m]) / len(cell[m]):.1f}"
                    if m in cell
                    else "-"
                    for m in methods
                ),
            ]
            for name, cell in groups.items()
        ]
        parts += [heading(split, 3), table(["group", *methods], rows)]
    return parts


def _json(value) -> str:
    return html_page.code(json.dumps(value, indent=1))
