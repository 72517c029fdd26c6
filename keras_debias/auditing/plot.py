"""A report as a plot."""

import os
import textwrap

import numpy as np

from keras_debias.evaluation.plot import COLORS
from keras_debias.evaluation.plot import GRID
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure


def plot_report(report, path: str | os.PathLike | None, top: int):
    """Draws a report; see `AuditReport.plot`."""
    findings = report.findings[:top]
    lines = max(len(findings), 1)
    height = 1.6 + 0.34 * max(lines, 4)
    if report.probes:
        figure = new_figure(11.5, height)
        axes, side = figure.subplots(1, 2, width_ratios=[6.5, 5])
        _draw_probes(side, report.probes)
    else:
        figure = new_figure(7.5, height)
        axes = figure.subplots()
    _draw_findings(axes, findings, report.target == "errors")
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    question = "What predicts the label of"
    if report.target == "errors":
        question = "What goes with errors on"
    figure.suptitle(
        f"{question} {report.name or 'the split'} ({report.n:,} rows)",
        fontsize=13,
        color=INK,
        fontweight="bold",
        parse_math=False,
    )
    save_figure(figure, path)
    return figure


def _draw_findings(axes, findings, errors) -> None:
    axes.set_title("Strongest features", loc="left", fontsize=11, color=INK)
    if not findings:
        axes.set_axis_off()
        axes.text(0, 0.5, "Nothing beyond chance.", color=INK)
        return
    positions = range(len(findings))
    if errors:
        names = ("errors without the feature", "errors with it")
        pairs = [(f.error_rate_without, f.error_rate_with) for f in findings]
    else:
        names = ("P(label)", "P(label | feature)")
        pairs = [(f.prior, f.share) for f in findings]
    before, after = (100 * np.array(pairs)).T
    axes.hlines(positions, before, after, color=GRID, linewidth=4)
    axes.plot(before, positions, "o", color=COLORS[0], label=names[0])
    axes.plot(after, positions, "o", color=COLORS[5], label=names[1])
    axes.set_yticks(
        positions,
        [textwrap.fill(_tick(f, errors), 46) for f in findings],
        parse_math=False,
    )
    axes.invert_yaxis()
    _percent_axis(axes)


def _tick(finding, errors) -> str:
    if errors:
        return f"{finding.label}: {finding.feature} (n={finding.n:,})"
    size = f"n={finding.n:,}"
    if finding.harm is not None and finding.harm.significant:
        size += f", {finding.harm.excess_errors:.0f} excess errors"
    return f"{finding.feature} → {finding.label} ({size})"


def _draw_probes(axes, probes) -> None:
    axes.set_title("Linear models on a part", loc="left", fontsize=11)
    positions = range(len(probes))
    axes.barh(
        positions,
        [100 * p.accuracy for p in probes],
        height=0.5,
        color=[COLORS[5] if p.significant else GRID for p in probes],
    )
    axes.axvline(
        100 * probes[0].majority,
        color=INK,
        linewidth=1,
        linestyle=(0, (4, 3)),
    )
    axes.set_yticks(positions, [textwrap.fill(p.name, 18) for p in probes])
    axes.invert_yaxis()
    _percent_axis(axes)
    axes.set_xlabel(
        "Accuracy (%); dashed: majority class;\ngrey: not beyond chance",
        fontsize=9,
        color=INK,
    )


def _percent_axis(axes) -> None:
    axes.set_xlim(0, 103)
    axes.set_xlabel("%", color=INK, fontsize=9)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=8)
