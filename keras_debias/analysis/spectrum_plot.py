"""The plot of an `UpdateSpectrum`."""

import os

import numpy as np

from keras_debias.evaluation.plot import COLORS
from keras_debias.evaluation.plot import GRID
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure

MOST_SHOWN = 24


def spectrum_plot(spectrum, path: str | os.PathLike | None = None):
    """Draws shares against those of random adapters."""
    shown = min(len(spectrum.spectrum), MOST_SHOWN)
    shares = 100 * spectrum.spectrum[:shown]
    size = len(spectrum.spectrum)
    null = 100 * np.mean([n[:, :size] for n in spectrum.nulls.values()], axis=0)
    low, middle, high = np.percentile(null, (1, 50, 99), axis=0)[:, :shown]
    rows = np.arange(1, shown + 1)
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    axes.fill_between(
        rows,
        low,
        high,
        color=COLORS[4],
        alpha=0.35,
        linewidth=0,
        label="random adapters, 1 to 99 %",
    )
    axes.plot(rows, middle, color=COLORS[4], linewidth=1)
    axes.plot(
        rows, shares, "o-", color=COLORS[0], markersize=4, label="this model"
    )
    axes.axhline(
        100 * spectrum.threshold,
        color=COLORS[5],
        linewidth=1,
        linestyle="--",
        label="needed to stand out",
    )
    axes.axvline(spectrum.k + 0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("Direction", color=INK, fontsize=10)
    axes.set_ylabel("Share of the updates, %", color=INK, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"{spectrum.detected} directions stand out",
        fontsize=12,
        color=INK,
        fontweight="bold",
    )
    save_figure(figure, path)
    return figure
