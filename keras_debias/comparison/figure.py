"""The plot of a comparison."""

import numpy as np

from keras_debias.comparison.statistics import DISPLAY_NAMES
from keras_debias.comparison.statistics import WORST as WORST_PREFIX
from keras_debias.comparison.statistics import is_percent
from keras_debias.comparison.statistics import main_columns
from keras_debias.comparison.statistics import spelled
from keras_debias.evaluation.plot import GRID
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import OVERALL
from keras_debias.evaluation.plot import WORST
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import plain_text
from keras_debias.evaluation.plot import save_figure


def plot_methods(comparison, path=None, metric=None):
    """One panel a split: a dot a seed, a bar for the mean over seeds."""
    if not comparison.runs:
        raise ValueError(
            "Expected a comparison with finished runs. Received: none, and "
            f"{len(comparison.errors)} broken ones. `print(comparison)` shows "
            "their errors."
        )
    frame = comparison.frame
    columns = main_columns(comparison.summary())
    if metric is not None:
        wanted = (metric, f"{WORST_PREFIX}{metric}")
        known = [m for _, m in columns if not m.startswith(WORST_PREFIX)]
        columns = [pair for pair in columns if pair[1] in wanted]
        if not columns:
            raise ValueError(
                "Expected `metric` to be one of "
                f"{list(dict.fromkeys(known))}. Received: metric={metric!r}"
            )
    splits = list(dict.fromkeys(split for split, _ in columns))
    drawn = {split: _drawn(columns, split) for split in splits}
    methods = [m for m in comparison.methods if m in set(frame["method"])]
    wide = min(len(splits), 3)
    tall = -(-len(splits) // wide)
    drawing = new_figure(3.6 * wide + 1.2, (0.5 * len(methods) + 1.3) * tall)
    panels = drawing.subplots(tall, wide, squeeze=False, sharey=True)
    height = np.arange(len(methods))[::-1]
    for panel, split in zip(panels.flat, splits):
        for measure, color in zip(drawn[split], (OVERALL, WORST)):
            if (split, measure) not in columns:
                continue
            scale = 100 if is_percent(measure) else 1
            part = frame[
                (frame["split"] == split) & (frame["measure"] == measure)
            ]
            for y, method in zip(height, methods, strict=True):
                values = scale * part[part["method"] == method]["value"]
                panel.plot(
                    values,
                    np.full(len(values), y),
                    "o",
                    color=color,
                    alpha=0.45,
                    markersize=5,
                )
                panel.plot(
                    [values.mean()],
                    [y],
                    "|",
                    color=color,
                    markersize=16,
                    markeredgewidth=2.5,
                    label=spelled(measure) if y == height[0] else None,
                )
        panel.set_title(plain_text(split), fontsize=10, color=INK)
        panel.set_yticks(height, [plain_text(m) for m in methods])
        panel.set_ylim(-0.7, len(methods) - 0.3)
        panel.grid(axis="x", color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(length=0, colors=INK, labelsize=9)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    for panel in panels.flat[len(splits) :]:
        panel.set_visible(False)
    if splits:
        panels.flat[0].legend(
            fontsize=8,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 1.08),
        )
    in_percent = all(is_percent(pair[0]) for pair in drawn.values())
    unit = "percent; " if in_percent else ""
    drawing.supxlabel(
        f"{unit}a dot is a seed, a stroke their mean", fontsize=9, color=INK
    )
    save_figure(drawing, path)
    return drawing


def _drawn(columns, split) -> tuple[str, str]:
    """What is drawn of a split: the accuracy, or its first metric."""
    first = next(measure for name, measure in columns if name == split)
    if first in DISPLAY_NAMES:
        value, worst = DISPLAY_NAMES
        return value, worst
    first = first.removeprefix(WORST_PREFIX)
    return first, f"{WORST_PREFIX}{first}"
