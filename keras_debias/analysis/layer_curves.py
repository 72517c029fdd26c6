"""Curves over the layers of a model."""

import os
from collections.abc import Mapping
from collections.abc import Sequence

from keras_debias.evaluation.plot import GRID
from keras_debias.evaluation.plot import INK
from keras_debias.evaluation.plot import new_figure
from keras_debias.evaluation.plot import save_figure


def plot_layer_curves(
    path: str | os.PathLike,
    curves: Mapping[str, Sequence[float]],
    title: str,
    marked: int | None = None,
    dashed: Mapping[str, Sequence[float]] | None = None,
    ylabel: str = "",
) -> None:
    """Saves curves over layers as a picture.

    Args:
        path: path of the file; its ending decides the format.
        curves: dict from name to one value for each layer.
        title: string.
        marked: int or `None`. A layer to mark.
        dashed: dict like `curves`: drawn dashed in the color of the curve of
            the same name.
        ylabel: string.
    """
    figure = new_figure(7, 4)  # raises without matplotlib
    import matplotlib

    axes = figure.subplots()
    colors = matplotlib.colormaps["tab20"].colors
    for number, (name, values) in enumerate(curves.items()):
        color = colors[(2 * number) % 20 + number // 10 % 2]
        axes.plot(range(len(values)), values, color=color, label=name)
        if dashed is not None and name in dashed:
            axes.plot(
                range(len(values)), dashed[name], color=color, linestyle="--"
            )
    if marked is not None:
        axes.axvline(marked, color=GRID, linewidth=2, zorder=0)
    axes.set_title(title, color=INK, fontsize=10)
    axes.set_xlabel("Layer", color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    if len(curves) > 1:
        axes.legend(fontsize="small", ncols=2)
    save_figure(figure, path)
