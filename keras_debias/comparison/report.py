"""The comparison as one HTML page that needs nothing else."""

import base64
import html
import io
import json

from keras_debias.comparison import figure
from keras_debias.comparison import tables

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75em;
       margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px; }
th, td { padding: .3em .8em; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
div.wide { overflow-x: auto; }
img { max-width: 100%; }
p.note { color: #555; }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 13px; }
"""


def page(comparison, title="Comparison", introduction=()) -> str:
    """The page as a string."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(text)}</p>" for text in introduction]
    parts.append(f"<p>{html.escape(_summary(comparison))}</p>")
    if comparison.runs:
        parts += [
            "<h2>Results</h2>",
            _table(*tables.results(comparison)),
            _note(tables.note(comparison)),
            f'<img alt="Results by split" src="{_picture(comparison)}">',
            "<h2>Uncertainty from the number of rows</h2>",
            _table(*tables.intervals(comparison)),
            _note(tables.ROWS_NOTE),
        ]
        header, rows = tables.tests(comparison)
        if rows:
            parts += [
                "<h2>Paired tests over seeds</h2>",
                _table(header, rows),
                _note(tables.TESTS_NOTE),
            ]
        header, rows = tables.criteria(comparison)
        if rows:
            parts += [
                "<h2>Criteria on validation data</h2>",
                _table(header, rows),
                _note(
                    "Mean over seeds, percent. Average, worst class and "
                    "disagreement with a biased model need no group labels."
                ),
            ]
        parts += ["<h2>Groups</h2>", *_groups(comparison)]
    found = comparison.diagnoses()
    if found:
        parts.append("<h2>Diagnosis</h2>")
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in found]
    parts += ["<h2>Costs</h2>", _table(*tables.costs(comparison))]
    parts.append(
        _note(
            "Seconds of training, evaluation not included; the highest host "
            "memory of the process, and of the GPU where one was used."
        )
    )
    if comparison.errors:
        parts.append("<h2>Broken runs</h2>")
        for (method, seed), error in comparison.errors.items():
            parts.append(f"<h3>{html.escape(method)}, seed {seed}</h3>")
            parts.append(f"<pre>{html.escape(error)}</pre>")
    notes = [
        {"method": run.method, "seed": run.seed, **run.notes}
        for run in comparison.runs
        if run.notes
    ]
    if notes:
        parts += ["<h2>Notes of the methods</h2>", _json(notes)]
    settings = {run.method: run.settings for run in comparison.runs}
    environments = []
    for run in comparison.runs:
        if run.environment not in environments:
            environments.append(run.environment)
    parts += ["<h2>Versions and machine</h2>", _json(environments)]
    parts += [
        "<h2>Configuration</h2>",
        _json({"methods": settings, **comparison.configuration}),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


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
        return ["<p>No split has groups.</p>"]
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
        parts += [
            f"<h3>{html.escape(split)}</h3>",
            _table(["group", *methods], rows),
        ]
    return parts


def _table(header, rows) -> str:
    return f'<div class="wide">{tables.html_table(header, rows)}</div>'


def _note(text) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _json(value) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=1))}</pre>"


def _picture(comparison) -> str:
    buffer = io.BytesIO()
    figure.plot_methods(comparison).savefig(
        buffer, format="png", facecolor="white"
    )
    code = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{code}"
