"""The heat map of a `BiasTermRanking`."""

import os
import textwrap

import numpy as np

from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure

# Above so many layers the numbers in the cells would not fit.
MOST_NUMBERS = 16


def heat_map(ranking, path: str | os.PathLike | None = None):
    """Draws layers by terms; see `BiasTermRanking.plot`."""
    values = ranking.values
    rows, columns = values.shape
    numbers = rows <= MOST_NUMBERS
    labels = short_names(ranking.layers)
    width = 2.4 + 0.07 * max(map(len, labels)) + 1.15 * columns
    height = 2.2 + (0.32 if numbers else 0.2) * rows
    figure = new_figure(max(width, 5.2), height)
    axes = figure.subplots()
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap="cividis",
        vmin=min(0.0, float(np.nanmin(values))),
        aspect="auto",
    )
    axes.set_facecolor("#EEEEEE")
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            absent = np.isnan(value)
            light = absent or image.norm(value) > 0.55
            axes.annotate(
                "n/a" if absent else f"{value:.2g}",
                (column, row),
                ha="center",
                va="center",
                fontsize=8,
                color=INK if light else "white",
            )
    axes.set_yticks(range(rows), labels)
    axes.set_xticks(
        range(columns),
        [
            textwrap.fill(term.replace("_", " "), 14)
            + f"\n{ranking.totals[term]:.3g}"
            for term in ranking.terms
        ],
    )
    axes.tick_params(length=0, colors=INK, labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("Bias term, with its total", color=INK, fontsize=10)
    axes.set_ylabel("Layer", color=INK, fontsize=10)
    bar = figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=INK, labelsize=9)
    title = ranking.measure[0].upper() + ranking.measure[1:]
    figure.suptitle(
        f"{title} of bias terms", fontsize=13, color=INK, fontweight="bold"
    )
    save_figure(figure, path)
    return figure


def short_names(paths) -> list[str]:
    """Paths without the parts that all of them begin and end with."""
    parts = [path.split("/") for path in paths]
    while min(map(len, parts)) > 1 and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while min(map(len, parts)) > 1 and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]
