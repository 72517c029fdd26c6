"""Pictures of scores. Matplotlib is imported where a picture is drawn."""

import os
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_debias.evaluation.table import one_line
from keras_debias.evaluation.table import split_names
from keras_debias.utils.files import atomic_write

# The palette of Okabe and Ito, for all kinds of color vision.
COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
OVERALL, WORST = COLORS[0], COLORS[5]
INK, GRID = "#333333", "#DDDDDD"


def new_figure(width: float, height: float):
    try:
        # Without pyplot, which would change global state.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Expected the package `matplotlib`, which draws, to be installed. "
            "Received: no such package. Install it with "
            '`pip install "keras-debias[plot]"`.'
        ) from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return figure


def save_figure(figure, path: str | os.PathLike | None) -> None:
    if path is not None:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, facecolor="white")


def plain_text(text: str) -> str:
    """Returns a text that Matplotlib draws as it is, `$` signs and all."""
    return one_line(text).replace("$", r"\$")


def _style(axes, grid: str) -> None:
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left" if grid == "y" else "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=9)


def _errors(values, intervals) -> np.ndarray:
    """Returns distances below and above, zero without an interval."""
    errors = np.zeros((2, len(values)))
    for i, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        if interval is not None and not np.isnan(value):
            errors[:, i] = (
                max(value - 100 * interval[0], 0),
                max(100 * interval[1] - value, 0),
            )
    return errors


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def _bars(axes, positions, values, intervals, width, color, label) -> None:
    values = np.asarray(values, dtype=float)
    errors = _errors(values, intervals)
    axes.bar(positions, values, width * 0.92, color=color, label=label)
    shown = errors.sum(axis=0) > 0
    axes.errorbar(
        np.asarray(positions)[shown],
        values[shown],
        errors[:, shown],
        fmt="none",
        ecolor=INK,
        elinewidth=1.1,
        capsize=2.5,
    )
    for x, value, above in zip(positions, values, errors[1], strict=True):
        if np.isnan(value):
            axes.annotate(
                "n/a", (x, 1), ha="center", va="bottom", fontsize=8, color=INK
            )
            continue
        axes.annotate(
            f"{value:.0f}" if width < 0.2 else f"{value:.1f}",
            (x, value + above),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=INK,
        )


def _percent_axis(axes, label: str) -> None:
    axes.set_ylim(0, 109)  # room for the numbers above full bars
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel(label, color=INK, fontsize=10)


def _split_ticks(axes, names) -> None:
    axes.set_xticks(
        range(len(names)),
        [
            textwrap.fill(plain_text(name.replace("_", " ")), 14)
            for name in names
        ],
    )
    axes.set_xlim(-0.6, len(names) - 0.4)


def plot_scores(scores, path: str | os.PathLike | None = None):
    """Draws the accuracies of one `Scores`; see `Scores.plot`."""
    splits = [split for split in scores if split.accuracy is not None]
    grouped = [split for split in splits if split.groups]
    lines = sum(len(split.groups) + 1 for split in grouped)
    left = 1.4 + 1.3 * len(splits)
    width = max(left, 4.5) + (5.5 if grouped else 0)
    figure = new_figure(width, max(4.2, 1.2 + 0.24 * lines))
    if grouped:
        axes, detail = figure.subplots(1, 2, width_ratios=[max(left, 4.5), 5.5])
    else:
        axes, detail = figure.subplots(), None
    positions = np.arange(len(splits))
    half = 0.36
    _bars(
        axes,
        positions - half / 2 if grouped else positions,
        [_percent(s.accuracy) for s in splits],
        [s.accuracy_interval for s in splits],
        half,
        OVERALL,
        "all rows",
    )
    if grouped:
        _bars(
            axes,
            positions + half / 2,
            [_percent(s.worst_group_accuracy) for s in splits],
            [s.worst_group_accuracy_interval for s in splits],
            half,
            WORST,
            "worst group",
        )
        _group_panel(detail, grouped)
    _split_ticks(axes, [split.name for split in splits])
    _percent_axis(axes, "Accuracy (%)")
    _style(axes, "y")
    axes.set_title("By split", loc="left", fontsize=11, color=INK)
    title = "Accuracy overall and by group"
    if scores.confidence is not None:
        title += f" ({100 * scores.confidence:g} % intervals)"
    figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    save_figure(figure, path)
    return figure


def plot_metric(scores, name: str, path: str | os.PathLike | None = None):
    """Draws one metric of all rows and of every group, split by split."""
    splits = [split for split in scores if name in split.metrics]
    lines = sum(len(split.metrics[name].groups) + 2 for split in splits)
    figure = new_figure(7.0, max(2.4, 1.3 + 0.26 * lines))
    axes = figure.subplots()
    labels, y = [], 0
    for split in splits:
        metric = split.metrics[name]
        labels.append((y, plain_text(split.name.replace("_", " ")), True))
        sizes = {group.name: group.n for group in split.groups}
        points = [("all rows", split.n, metric.value, metric.interval, INK)]
        points += [
            (
                group,
                sizes.get(group, 0),
                value,
                metric.group_intervals[group],
                WORST if group == metric.worst_group else OVERALL,
            )
            for group, value in metric.groups.items()
        ]
        for text, n, value, interval, color in points:
            y += 1
            labels.append((y, f"{plain_text(text)}  (n={n:,})", False))
            if value is None:
                continue
            low, high = (value, value) if interval is None else interval
            axes.errorbar(
                [value],
                [y],
                xerr=[[max(value - low, 0)], [max(high - value, 0)]],
                fmt="o",
                markersize=6,
                color=color,
                ecolor=color,
                elinewidth=1.6,
                capsize=2.5,
            )
        if metric.value is not None:
            axes.vlines(
                metric.value,
                y - len(points) + 0.5,
                y + 0.5,
                color=INK,
                linewidth=1,
                linestyle=(0, (4, 3)),
            )
        y += 1
    axes.set_yticks([p for p, _, _ in labels], [t for _, t, _ in labels])
    axes.set_ylim(y - 0.4, -0.6)
    rises = splits[0].metrics[name].higher_is_better
    axes.set_xlabel(
        f"{plain_text(name)}, {'higher' if rises else 'lower'} is better; "
        "dashed: all rows",
        color=INK,
        fontsize=10,
    )
    _style(axes, "x")
    for tick, (_, _, heading) in zip(
        axes.get_yticklabels(), labels, strict=True
    ):
        if heading:
            tick.set_fontweight("bold")
    title = f"{plain_text(name)} overall and by group"
    if scores.confidence is not None:
        title += f" ({100 * scores.confidence:g} % intervals)"
    figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    save_figure(figure, path)
    return figure


def _group_panel(axes, splits) -> None:
    """One line a group, below a heading for each split."""
    labels, y = [], 0
    for split in splits:
        labels.append((y, plain_text(split.name.replace("_", " ")), True))
        y += 1
        for group in split.groups:
            color = WORST if group.name == split.worst_group else OVERALL
            labels.append(
                (y, f"{plain_text(group.name)}  (n={group.n:,})", False)
            )
            if group.accuracy is not None:
                value = _percent(group.accuracy)
                axes.errorbar(
                    [value],
                    [y],
                    xerr=_errors([value], [group.interval]),
                    fmt="o",
                    markersize=6,
                    color=color,
                    ecolor=color,
                    elinewidth=1.6,
                    capsize=2.5,
                )
            y += 1
        axes.vlines(
            _percent(split.accuracy),
            y - len(split.groups) - 0.5,
            y - 0.5,
            color=INK,
            linewidth=1,
            linestyle=(0, (4, 3)),
        )
    axes.set_yticks([p for p, _, _ in labels], [t for _, t, _ in labels])
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("Accuracy (%), dashed: all rows", color=INK, fontsize=10)
    axes.set_title("By group", loc="left", fontsize=11, color=INK)
    _style(axes, "x")
    for tick, (_, _, heading) in zip(
        axes.get_yticklabels(), labels, strict=True
    ):
        if heading:
            tick.set_fontweight("bold")


def plot_comparison(
    named_scores: Mapping[str, Any],
    path: str | os.PathLike | None = None,
):
    """Draws several scores side by side: all rows, and the worst group.

    Needs matplotlib.

    Args:
        named_scores: dict from a name, for instance that of a method, to
            `Scores`.
        path: path of a picture to be written. Defaults to `None`: nothing is
            written.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is nothing to compare.

    Example:

    ```python
    plot_comparison({"TaskOnly": plain, "EDGE": debiased}, "scores.png")
    ```
    """
    names = split_names(named_scores)
    panels = [("All rows", "accuracy", "accuracy_interval")]
    if any(s.groups for scores in named_scores.values() for s in scores):
        panels.append(
            (
                "Worst group",
                "worst_group_accuracy",
                "worst_group_accuracy_interval",
            )
        )
    bar = 0.8 / len(named_scores)
    panel_width = max(3.6, 0.8 + len(names) * (0.5 + 0.42 * len(named_scores)))
    figure = new_figure(1.0 + panel_width * len(panels), 4.4)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, value, interval) in zip(all_axes, panels, strict=True):
        for i, (method, scores) in enumerate(named_scores.items()):
            found = [scores[n] if n in scores else None for n in names]
            offset = (i - (len(named_scores) - 1) / 2) * bar
            _bars(
                axes,
                np.arange(len(names)) + offset,
                [_percent(getattr(s, value, None)) for s in found],
                [getattr(s, interval, None) for s in found],
                bar,
                COLORS[i % len(COLORS)],
                plain_text(method),
            )
        _split_ticks(axes, names)
        _percent_axis(axes, "Accuracy (%)" if axes is all_axes[0] else "")
        _style(axes, "y")
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("Split", color=INK, fontsize=10)
    levels = {s.confidence for s in named_scores.values()} - {None}
    title = "Accuracy by method"
    if len(levels) == 1:
        title += f" ({100 * levels.pop():g} % intervals)"
    figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    figure.legend(
        *all_axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(named_scores), 4),
        frameon=False,
        fontsize=9,
    )
    save_figure(figure, path)
    return figure
