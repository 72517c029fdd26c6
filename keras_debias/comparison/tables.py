"""The comparison's tables as text, Markdown and LaTeX."""

import re

import numpy as np

from keras_debias.comparison.kept_models import criterion_of
from keras_debias.comparison.statistics import is_percent
from keras_debias.comparison.statistics import main_columns
from keras_debias.comparison.statistics import mean_ranks
from keras_debias.comparison.statistics import shown
from keras_debias.comparison.statistics import spelled
from keras_debias.evaluation.table import one_line
from keras_debias.evaluation.table import text_blocks
from keras_debias.evaluation.table import text_table


def _cell(line, is_first) -> str:
    measure = line["measure"]
    text = shown(measure, line["mean"])
    if not np.isnan(line["std"]):
        text += f" ± {shown(measure, line['std'])}"
    if not is_first and not np.isnan(line.get("difference", np.nan)):
        text += f" ({shown(measure, line['difference'], sign=True)}"
        if line["pairs"] > 1:
            text += f", {line['better']:.0f}/{line['pairs']:.0f}"
        text += ")"
    return text


def results(comparison) -> tuple[list, list]:
    """Header and rows of the main table."""
    summary, methods = comparison.summary(), comparison.methods
    columns = main_columns(summary)
    lines = {
        (line["method"], line["split"], line["measure"]): line
        for line in summary.to_dict("records")
    }
    ranks = mean_ranks(summary, methods)
    header = ["method", "seeds"]
    header += [f"{split} {spelled(measure)}" for split, measure in columns]
    header.append("rank")
    rows = []
    for method in methods:
        cells = [lines.get((method, *column)) for column in columns]
        if not any(cells):
            continue
        seeds = max(cell["seeds"] for cell in cells if cell)
        texts = [
            _cell(cell, method == methods[0]) if cell else "-" for cell in cells
        ]
        rank = ranks.get(method, np.nan)
        rows.append([method, str(seeds), *texts, f"{rank:.1f}"])
    return header, rows


def intervals(comparison) -> tuple[list, list]:
    """Header and rows of the intervals over rows."""
    summary = comparison.summary()
    columns = main_columns(summary)
    lines = {
        (line["method"], line["split"], line["measure"]): line
        for line in summary.to_dict("records")
    }
    header = ["method"]
    header += [f"{split} {spelled(measure)}" for split, measure in columns]
    rows = []
    for method in comparison.methods:
        cells = [lines.get((method, *column)) for column in columns]
        if not any(cells):
            continue
        rows.append(
            [
                method,
                *(
                    "-"
                    if not cell or np.isnan(cell["rows_low"])
                    else f"[{shown(cell['measure'], cell['rows_low'])}, "
                    f"{shown(cell['measure'], cell['rows_high'])}]"
                    for cell in cells
                ),
            ]
        )
    return header, rows


def tests(comparison) -> tuple[list, list]:
    """Header and rows of the paired tests over seeds; may be empty."""
    summary = comparison.summary()
    columns = main_columns(summary)
    header = ["method"]
    header += [f"{split} {spelled(measure)}" for split, measure in columns]
    rows = []
    for method in comparison.methods[1:]:
        lines = {
            (line["split"], line["measure"]): line
            for line in summary.to_dict("records")
            if line["method"] == method and line.get("t_test", np.nan) >= 0
        }
        if lines:
            found = [lines.get(column) for column in columns]
            rows.append(
                [
                    method,
                    *(
                        f"{line['t_test']:.2g} / {line['wilcoxon']:.2g}"
                        if line
                        else "-"
                        for line in found
                    ),
                ]
            )
    return header, rows


def costs(comparison) -> tuple[list, list]:
    """Header and rows of what each method took."""
    header = ["method", "updates", "seconds", "ms/update", "peak MiB", "chosen"]
    on_gpu = any(run.accelerator_memory for run in comparison.runs)
    counted = any(run.trainable_parameters for run in comparison.runs)
    if counted:
        header.append("trainable")
    if on_gpu:
        header.append("GPU MiB")
    broken = [method for method, _ in comparison.errors]
    if broken:
        header.append("broken")
    rows = []
    for method in comparison.methods:
        runs = [run for run in comparison.runs if run.method == method]
        if runs:
            row = [
                method,
                f"{np.mean([r.updates for r in runs]):.0f}",
                f"{np.mean([r.seconds for r in runs]):.1f}",
                f"{1000 * np.mean([r.seconds_per_update for r in runs]):.1f}",
                f"{max(r.peak_memory for r in runs) / 2**20:.0f}",
                runs[0].selection,
            ]
            if counted:
                row.append(_trainable(runs[0]))
            if on_gpu:
                most = max(r.accelerator_memory or 0 for r in runs)
                row.append(f"{most / 2**20:.0f}")
        else:
            row = [method, *["-"] * (5 + counted + on_gpu)]
        if broken:
            row.append(str(broken.count(method)))
        rows.append(row)
    return header, rows


def _trainable(run) -> str:
    if run.trainable_parameters is None:
        return "-"
    share = 100 * run.trainable_parameters / max(run.parameters, 1)
    return f"{run.trainable_parameters:,} ({share:.3g} %)"


def criterion_text(name: str, value: float) -> str:
    """A criterion in percent; a metric, named in small letters, as it is."""
    return f"{100 * value:.1f}" if name[:1].isupper() else f"{value:.3f}"


def criteria(comparison) -> tuple[list, list]:
    """Header and rows of the criteria on validation data; may be empty."""
    names = list(
        dict.fromkeys(n for run in comparison.runs for n in run.validation)
    )
    rows = []
    for method in comparison.methods:
        runs = [run for run in comparison.runs if run.method == method]
        if runs and names:
            means = [
                np.mean([r.validation[n] for r in runs if n in r.validation])
                for n in names
            ]
            texts = map(criterion_text, names, means)
            rows.append([method, *texts])
    return ["method", *names], rows


def served(comparison) -> str | None:
    """Which run would be served, in a sentence; `None` if none can be."""
    try:
        run = comparison.best()
    except ValueError:
        return None  # no validation data, or nothing has learned
    name = criterion_of(run) or ""
    value = criterion_text(name, run.validation[name])
    unit = " %" if name[:1].isupper() else ""
    return (
        f"To serve: {one_line(run.method)}, seed {run.seed}, by {name} "
        f"{value}{unit} on validation data. It was chosen by this value: "
        "expect less on new data."
    )


def note(comparison) -> str:
    first = comparison.methods[0]
    measures = {measure for _, measure in main_columns(comparison.summary())}
    percent = "Percent, mean"
    if not any(map(is_percent, measures)):
        percent = "Mean"
    elif not all(map(is_percent, measures)):
        percent = "Percent (metrics in their own units), mean"
    return (
        f"{percent} ± standard deviation over seeds; in parentheses the "
        f"mean paired difference to {first}, and in how many seeds it is "
        "better. Rank: over splits, by the worst group where there are "
        "groups; 1 is best."
    )


TESTS_NOTE = (
    "P-values of the paired differences over seeds: Student's t-test / "
    "Wilcoxon's signed-rank test, two-sided, not corrected for the number of "
    "comparisons. With n seeds the latter is never below 2^(1-n)."
)

ROWS_NOTE = (
    "Intervals over the rows of the test sets, as `kd.evaluate` states them, "
    "averaged over seeds."
)


def text(comparison) -> str:
    parts = []
    if comparison.runs:
        parts += [
            text_blocks(*results(comparison)),
            note(comparison),
            text_blocks(*intervals(comparison)),
            ROWS_NOTE,
        ]
        if tests(comparison)[1]:
            parts += [text_blocks(*tests(comparison)), TESTS_NOTE]
        if criteria(comparison)[1]:
            parts.append("On validation data:")
            parts.append(text_table(*criteria(comparison)))
            parts += filter(None, [served(comparison)])
    parts.append(text_table(*costs(comparison)))
    found = comparison.diagnoses()
    if found:
        parts.append("\n".join(map(one_line, found)))
    if comparison.errors:
        lines = [
            f"{one_line(method)}, seed {seed}: {_last_line(error)}"
            for (method, seed), error in comparison.errors.items()
        ]
        parts.append("Broken runs, left out:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _last_line(error) -> str:
    lines = error.strip().splitlines()
    return lines[-1] if lines else "no message"


def _markdown(text: str) -> str:
    """A cell of a Markdown table that shows the text as it is."""
    text = one_line(text).replace("\\", "\\\\").replace("<", "&lt;")
    return re.sub(r"([|`*_\[\]$])", r"\\\1", text)


def markdown_table(header, rows) -> str:
    def line(cells):
        return f"| {' | '.join(map(_markdown, cells))} |"

    rule = "|" + "---|" * len(header)
    return "\n".join([line(header), rule, *map(line, rows)])


def latex_table(header, rows) -> str:
    signs = {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "±": "$\\pm$",
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
    }

    def line(cells):
        escaped = (
            "".join(signs.get(c, c) for c in one_line(cell)) for cell in cells
        )
        return " & ".join(escaped) + " \\\\"

    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            "\\hline",
            line(header),
            "\\hline",
            *map(line, rows),
            "\\hline",
            "\\end{tabular}",
        ]
    )
